"""The worker's own side: pools, shares of queues, time-outs, its status, its end when idle."""
import json
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import harness
from harness import free_ports, scaled, wait_until


PLUGIN = harness.BIN.parent / "lib" / "test_plugin_GOOD.so"


def is_alive(pid):
    """Neither gone nor waiting for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class PoolTest(harness.Case):
    def latency(self, pool, count):
        """p99 in ms of jobs of 1 ms, at most one in a hundred of 1 s, at 200/s."""
        broker = self.broker(name=f"broker-{pool}").start()
        self.worker(broker, "q=sleep:1ms,1%:1s", pool=pool, name=f"worker-{pool}").start()
        broker.wait_workers(1)
        process = self.produce("load", broker, "--queue", "q", "--rate", 200, "--count", count, "--size", 16, "--json")
        self.assertEqual(process.returncode, 0, process.stderr)
        report = json.loads(process.stdout)
        self.assertEqual((report["completed"], report["lost"]), (count, 0))
        return report["latency_ms"]["p99"]

    def test_one_slow_job_in_a_hundred_delays_others_only_in_a_single_thread(self):
        count = 800  # few enough a second for a sanitizer, too; six of them are slow
        delayed = self.latency("single", count)
        self.assertGreater(delayed, 2000)  # each slow job delays all that come in its second, and they add up
        for pool in ("fixed:16", "per-job", "auto:4-64"):
            with self.subTest(pool=pool):
                self.assertLess(self.latency(pool, count), 900)  # less than one slow job takes

    def test_every_pool_runs_every_job(self):
        for pool in ("single", "per-job", "per-job:2", "fixed:3", "auto:1-8"):
            with self.subTest(pool=pool):
                broker = self.broker(name=f"broker-{pool}").start()
                worker = self.worker(broker, "q=echo", pool=pool, name=f"worker-{pool}").start()
                count, ledger = scaled(5_000), self.dir / f"ledger-{pool}"
                process = self.produce("load", broker, "--queue", "q", "--rate", "max", "--count", count, "--verify",
                                       "--ledger", ledger, "--json")
                self.assertEqual(process.returncode, 0, process.stderr)
                self.audit(broker, ledger)
                self.assertEqual(worker.terminate(), 0)


class ShareTest(harness.Case):
    def test_slow_jobs_of_one_queue_never_block_another(self):
        broker = self.broker().start()
        worker = self.worker(broker, "slow=sleep:1h@2", "fast=echo", pool="fixed:1").start()
        broker.wait_workers(2)  # a share draws by itself
        names = {tuple(entry["queues"]): entry for entry in broker.status()["workers"]}
        self.assertTrue(names[("slow",)]["name"].endswith("/slow"))
        self.assertEqual((names[("slow",)]["threads"], names[("fast",)]["threads"]), (2, 1))
        self.assertEqual(self.produce("submit", broker, "--queue", "slow", "--lines", "-",
                                      stdin=b"x\n" * 100).returncode, 0)
        wait_until(lambda: broker.jobs()["leased"] >= 2, what="the slow jobs being leased")
        process = self.produce("submit", broker, "--queue", "fast", "--wait", "--results", "-", "hello")
        self.assertEqual(json.loads(process.stdout)["result"], "hello")
        self.assertTrue(worker.running())


class PrefixTest(harness.Case):
    def test_a_prefix_draws_from_queues_that_are_made_later(self):
        broker = self.broker().start()
        self.worker(broker, "tenant.*=exec:printf %s $MILLRACE_QUEUE", "tenant.b=exec:printf own").start()
        broker.wait_workers(1)
        for queue, result in (("tenant.a", "tenant.a"), ("tenant.b", "own"), ("tenant.c.d", "tenant.c.d")):
            process = self.produce("submit", broker, "--queue", queue, "--wait", "--results", "-", "x")
            self.assertEqual(json.loads(process.stdout)["result"], result, process.stderr)
        self.assertEqual(broker.status()["workers"][0]["queues"], ["tenant.*", "tenant.b"])
        self.assertEqual(broker.status()["queue_count"], 3)


class LabelTest(harness.Case):
    def test_labels_are_shown(self):
        broker = self.broker().start()
        self.worker(broker, "q=echo", "slow=echo@1", flags=["--label", "gpu", "--label", "rack-3"]).start()
        broker.wait_workers(2)
        self.assertEqual([entry["labels"] for entry in broker.status()["workers"]], [["gpu", "rack-3"]] * 2)
        self.assert_exit(self.run_program("millrace-worker", "run", "--queue", "q=echo", "--label", "two words"),
                         harness.USAGE, "two words", "label")


class StuckTest(harness.Case):
    def submit_one(self, broker):
        process = self.produce("submit", broker, "--queue", "q", "--max-attempts", 1, "--wait", "--results", "-", "x")
        return json.loads(process.stdout)

    def test_a_job_over_its_time_fails_and_its_processes_are_killed(self):
        broker = self.broker().start()
        pids = self.dir / "pids"
        self.worker(broker, f"q=exec:sleep 1000 & echo $! >{pids}; sleep 1000", flags=("--run-timeout", "300ms")).start()
        line = self.submit_one(broker)
        self.assertEqual(line["state"], "dead")
        self.assertIn("timed out", line["error"])
        pid = pids.read_text().strip()
        wait_until(lambda: not is_alive(pid), what="the end of the command's background process")

    def test_a_cancelled_job_that_runs_is_killed(self):
        broker = self.broker().start()
        pids = self.dir / "pids"
        self.worker(broker, f"q=exec:echo $$ >{pids}.part; mv {pids}.part {pids}; sleep 1000", pool="fixed:1",
                    flags=("--prefetch", 2)).start()
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", stdin=b"a\nb\n")
        first, second = process.stdout.decode().split()
        wait_until(pids.exists, what="the first job's start")
        wait_until(lambda: broker.jobs()["leased"] == 2, what="the second being leased")
        for name in (second, first):  # one waits in the worker, one runs there
            self.run_program("millrace-broker", "job", "cancel", name, "--http", f"127.0.0.1:{broker.http_port}")
        broker.wait_jobs(cancelled=2, leased=0)
        pid = pids.read_text().strip()
        wait_until(lambda: not is_alive(pid), what="the end of the cancelled command")

    def test_attempts_of_a_command_that_ignores_its_stop_do_not_overlap(self):
        broker = self.broker("--max-attempts", 2, "--backoff", "10ms..10ms").start()
        running, overlaps = self.dir / "running", self.dir / "overlaps"
        command = (f"trap '' TERM; [ -e {running} ] && kill -0 $(cat {running}) && echo $MILLRACE_ATTEMPT >>{overlaps}; "
                   f"echo $$ >{running}; while :; do sleep 0.05; done")
        self.worker(broker, f"q=exec:{command}", pool="fixed:2", flags=("--run-timeout", "300ms", "--kill-after", "1s")).start()
        end = json.loads(self.produce("submit", broker, "--queue", "q", "--wait", "--results", "-", "x").stdout)
        self.assertEqual((end["state"], end["attempts"]), ("dead", 2))
        self.assertIn("timed out", end["error"])
        self.assertFalse(overlaps.exists())


@unittest.skipUnless(PLUGIN.exists(), f"there is no {PLUGIN}")
class PluginTest(harness.Case):
    def submit(self, broker, *payloads):
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", "--wait", "--results", "-",
                               stdin="\n".join(payloads).encode())
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        return sorted(lines, key=lambda line: line["seq"])

    def test_ends_of_all_kinds(self):
        broker = self.broker("--max-job-size", "64KiB", "--backoff", "1ms..2ms", "--max-attempts", 2).start()
        self.worker(broker, f"q=so:{PLUGIN}").start()
        done, never, later, threw, huge = self.submit(broker, "fine", "permanent", "retryable", "throw", "huge")
        self.assertEqual(done["state"], "done")
        self.assertIn("fine", done["result"])
        for line, attempts, word in ((never, 1, "never"), (later, 2, "later"), (threw, 2, "the handler threw: from a plugin"),
                                     (huge, 1, "65537 bytes")):
            with self.subTest(word):
                self.assertEqual((line["state"], line["attempts"]), ("dead", attempts), line)
                self.assertIn(word, line["error"])

    @unittest.skipIf(harness.SANITIZED, "an abort is what a sanitizer looks for")
    def test_a_plugin_that_kills_its_worker_is_dead_at_the_crash_limit(self):
        limit, threads, count = 3, 2, 60
        broker = self.broker("--crash-limit", limit, "--heartbeat", "200ms").start()
        payloads = ["fine"] * count
        payloads[count // 2] = "crash"  # innocents before it, beside it and behind it
        self.produce("submit", broker, "--queue", "q", "--lines", "-", stdin="\n".join(payloads).encode())
        ends = 0
        while not broker.jobs()["dead"]:
            worker = self.worker(broker, f"q=so:{PLUGIN}", pool=f"fixed:{threads}", flags=("--prefetch", 50),
                                 name=f"worker-{ends}").start()
            wait_until(lambda: not worker.running() or broker.jobs()["dead"], what="the end of the worker, or of its job")
            ends += not worker.running()
        # The first ends of a worker may be charged to innocents, whose completions were lost with it.
        self.assertLessEqual(ends, limit + 2)
        broker.wait_jobs(done=count - 1, dead=1, leased=0)
        [dead] = json.loads(broker.get("/v1/dead")[1])["dead"]
        self.assertEqual(dead["crashes"], limit)
        self.assertLessEqual(broker.status()["totals"]["crashes"], ends * threads)

    def test_handlers_that_do_not_stop_are_replaced_until_the_worker_gives_up(self):
        [port] = free_ports(1)
        broker = self.broker("--max-attempts", 1).start()
        worker = self.worker(broker, f"q=so:{PLUGIN}", pool="single",
                             flags=("--run-timeout", "200ms", "--http", f"127.0.0.1:{port}")).start()
        deaf, fine = self.submit(broker, "deaf", "fine")
        self.assertEqual(deaf["state"], "dead")
        self.assertIn("timed out", deaf["error"])
        self.assertEqual(fine["state"], "done")
        status = self.run_program("millrace-worker", "status", "--http", f"127.0.0.1:{port}", "--json")
        self.assertEqual(json.loads(status.stdout)["threads"]["stuck"], 1)
        self.submit(broker, "deaf", "deaf", "deaf")
        self.assertEqual(worker.wait(), 1)
        broker.wait_jobs(dead=4, done=1, leased=0)


class StreamTest(harness.Case):
    def test_one_child_runs_many_jobs(self):
        broker = self.broker().start()
        script = self.dir / "handler.py"
        script.write_text("import json, os, sys\n"
                          "for line in sys.stdin:\n"
                          "    job = json.loads(line)\n"
                          "    print(json.dumps({'id': job['id'], 'result': f\"{os.getpid()} {job['payload']}\"}), flush=True)\n")
        worker = self.worker(broker, f"q=stream:{sys.executable} {script}", pool="fixed:2").start()
        count = scaled(2000)
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", "--wait", "--results", "-",
                               stdin=b"".join(b"%d\n" % i for i in range(count)))
        answers = [json.loads(line)["result"].split() for line in process.stdout.splitlines()]
        self.assertEqual({int(answer[1]) for answer in answers}, set(range(count)))
        children = {answer[0] for answer in answers}
        self.assertLessEqual(len(children), 2)
        self.assertEqual(worker.terminate(), 0)
        self.assertFalse([pid for pid in children if is_alive(pid)])


class SecretsTest(harness.Case):
    def test_a_command_finds_no_secret_in_the_processes_above_it(self):
        broker = self.broker().start()
        command = ("exec:for pid in $PPID $(ps -o ppid= -p $PPID) $(ps -o ppid= -p $(ps -o ppid= -p $PPID)); do "
                   "cat /proc/$pid/comm; tr '\\0' '\\n' </proc/$pid/environ | grep -c -e s3cret -e VISIBLE; done")
        worker = self.worker(broker, f"q={command}")
        worker.env = {"MILLRACE_HTTP_TOKEN": "s3cret-1", "MILLRACE_x_password": "s3cret-2", "VISIBLE": "yes"}
        worker.start()
        end = json.loads(self.produce("submit", broker, "--queue", "q", "--wait", "--results", "-", "x").stdout)
        self.assertEqual(end["result"].split(), ["millrace-spawn", "1", "millrace-guard", "1", "millrace-worker", "1"])


class StatusTest(harness.Case):
    def test_status_tells_threads_jobs_and_times(self):
        [port] = free_ports(1)
        broker = self.broker().start()
        self.worker(broker, "q=sleep:5ms", "r=echo@1", pool="fixed:3", flags=("--http", f"127.0.0.1:{port}")).start()
        broker.wait_workers(2)
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", "--wait", stdin=b"x\n" * 30)
        self.assertEqual(process.returncode, 0, process.stderr)
        process = self.run_program("millrace-worker", "status", "--http", f"127.0.0.1:{port}", "--json")
        self.assertEqual(process.returncode, 0, process.stderr)
        status = json.loads(process.stdout)
        self.assertEqual((status["state"], status["threads"]["total"]), ("serving", 4))
        [lane] = [lane for lane in status["lanes"] if lane["queues"] == ["q"]]
        self.assertEqual((lane["pool"], lane["threads"]), ("fixed:3", {"busy": 0, "total": 3, "stuck": 0}))
        self.assertEqual((lane["totals"]["done"], lane["run_ms"]["count"], lane["wait_ms"]["count"]), (30, 30, 30))
        self.assertGreaterEqual(lane["run_ms"]["p50"], 5)
        self.assertEqual([size["threads"] for size in lane["sizes"]], [3])
        table = self.run_program("millrace-worker", "status", "--http", f"127.0.0.1:{port}")
        self.assertIn(b"fixed:3", table.stdout)
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", headers=headers)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=10)
            with refused.exception as answer:
                self.assertEqual(answer.code, 403)

    def test_status_of_nobody(self):
        [port] = free_ports(1)
        self.assert_exit(self.run_program("millrace-worker", "status", "--http", f"127.0.0.1:{port}"), 69, "the worker")
        self.assert_exit(self.run_program("millrace-worker", "run", "--queue", "q=exec:true", "--limit-cpu", "1ms"), 64, "1s")
        process = self.run_program("millrace-worker", "run", "--queue", "q=echo", "--http", "192.0.2.1:80")
        self.assert_exit(process, 78, "--http")


class RollingRestartTest(harness.Case):
    def test_workers_that_take_turns_lose_and_repeat_nothing(self):
        broker = self.broker().start()
        ran = self.dir / "ran"
        queue = f"q=exec:echo $MILLRACE_JOB_ID >>{ran}"
        workers = [self.worker(broker, queue, pool=pool, name=f"worker-{pool}").start()
                   for pool in ("fixed:2", "auto:1-4")]
        broker.wait_workers(2)
        count, ledger = scaled(1500), self.dir / "ledger"
        producer = self.producer("load", broker, "--queue", "q", "--rate", 300, "--count", count, "--verify", "--ledger",
                                 ledger, "--json").start()
        for turn in range(4):
            done = broker.jobs()["done"]
            wait_until(lambda: broker.jobs()["done"] >= min(done + count // 8, count), what="progress")
            broker.wait_workers(2)  # one that has just been started would die of a SIGTERM before it can drain
            worker = workers[turn % 2]
            self.assertEqual(worker.terminate(), 0)
            worker.start()
        self.assertEqual(producer.wait(), 0, producer.text()[-1000:])
        names = harness.read_lines(ran)
        self.assertEqual((len(names), len(set(names))), (count, count))
        totals = broker.status()["totals"]
        self.assertEqual((totals["crashes"], totals["failures"]), (0, 0))
        self.audit(broker, ledger)


class IdleTest(harness.Case):
    def test_an_idle_worker_ends_and_a_busy_one_does_not(self):
        broker = self.broker().start()
        worker = self.worker(broker, "q=sleep:1s", flags=("--idle-exit", "400ms")).start()
        process = self.produce("submit", broker, "--queue", "q", "--wait", "x")
        self.assertEqual(process.returncode, 0, process.stderr)  # longer than the idle time
        self.assertEqual(worker.wait(), 0)
        broker.wait_jobs(done=1, leased=0)


if __name__ == "__main__":
    unittest.main()
