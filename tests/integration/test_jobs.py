"""Jobs from end to end through the real programs: how they are submitted, run, retried and told."""
import base64
import json
import os
import shlex
import unittest

import harness
from harness import read_lines, scaled, wait_until


class LoadTest(harness.Case):
    def test_a_load_is_done_and_the_books_balance(self):
        broker = self.broker().start()
        for name in ("one", "two"):
            self.worker(broker, "bench=echo", name=name).start()
        broker.wait_workers(2)
        count, ledger = scaled(50_000), self.dir / "ledger"
        process = self.produce("load", broker, "--queue", "bench", "--rate", "max", "--count", count, "--size", 256,
                               "--verify", "--ledger", ledger, "--json")
        self.assertEqual(process.returncode, 0, process.stderr)
        report = json.loads(process.stdout)
        for key in ("sent", "confirmed", "completed"):
            self.assertEqual(report[key], count, key)
        for key in ("rejected", "unknown", "failed", "dead", "lost", "duplicates"):
            self.assertEqual(report[key], 0, key)
        self.assertGreater(report["rate"], 0)
        for times in ("confirm_ms", "latency_ms"):
            self.assertLessEqual(report[times]["p50"], report[times]["p99"])
            self.assertLessEqual(report[times]["p99"], report[times]["max"])
        self.assertEqual(broker.jobs()["done"], count)
        totals = broker.status()["totals"]
        self.assertEqual((totals["accepted"], totals["attempts"]), (count, count))
        self.audit(broker, ledger)

    def test_the_rate_is_kept(self):
        broker = self.broker().start()
        self.worker(broker, "bench=sleep:1ms", pool="fixed:8").start()
        process = self.produce("load", broker, "--queue", "bench", "--rate", 500, "--duration", "2s", "--size", "1KiB",
                               "--verify", "--json")
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["sent"], report["completed"]), (0, 1000, 1000))
        self.assertGreater(report["seconds"], 1.9)

    def test_jobs_that_die_make_exit_1(self):
        broker = self.broker("--backoff", "1ms..5ms", "--max-attempts", 3).start()
        self.worker(broker, "bench=fail:100", flags=("--breaker", "0")).start()
        ledger = self.dir / "ledger"
        process = self.produce("load", broker, "--queue", "bench", "--rate", "max", "--count", 20, "--verify",
                               "--ledger", ledger, "--json")
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["dead"], report["completed"]), (1, 20, 0))
        status = broker.status()
        self.assertEqual((status["jobs"]["dead"], status["totals"]["failures"]), (20, 60))
        self.audit(broker, ledger)  # dead is an end: nothing is missing


class SubmitTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.under_test = self.broker().start()

    def submit(self, *flags, stdin=None):
        return self.produce("submit", self.under_test, "--queue", "q", *flags, stdin=stdin)

    def results(self, *flags, stdin=None):
        """Waits for the jobs; by sequence."""
        path = self.dir / "results"
        process = self.submit(*flags, "--wait", "--results", path, stdin=stdin)
        self.assertEqual(process.returncode, 0, process.stderr)
        lines = [json.loads(line) for line in read_lines(path)]
        self.assertEqual({line["state"] for line in lines}, {"done"})
        return [line for line in sorted(lines, key=lambda line: line["seq"])]

    def test_an_argument_and_standard_input(self):
        self.worker(self.under_test, "q=echo").start()
        self.assertEqual([line["result"] for line in self.results("an argument")], ["an argument"])
        self.assertEqual([line["result"] for line in self.results(stdin=b"all of\nstdin\n")], ["all of\nstdin\n"])
        self.assertEqual([line["result"] for line in self.results("")], [""])

    def test_lines_and_ndjson(self):
        self.worker(self.under_test, "q=echo").start()
        lines = ["first", "", "third with  blanks ", "ünïcode", '{"json": 1}']
        got = self.results("--lines", "-", stdin="\n".join(lines).encode())
        self.assertEqual([line["result"] for line in got], lines)
        path = self.dir / "lines"
        path.write_text("\n".join(lines) + "\n")
        self.assertEqual([line["result"] for line in self.results("--lines", path)], lines)
        ndjson = ['{"a": [1, 2]}', '"text"', "17", "null"]
        got = self.results("--ndjson", "-", stdin="\n".join(ndjson).encode())
        self.assertEqual([line["result"] for line in got], ndjson)

    def test_results_that_are_not_text_come_as_base64(self):
        self.worker(self.under_test, r"q=exec:printf '\377\000\n'").start()
        [line] = self.results("x")
        self.assertNotIn("result", line)
        self.assertEqual(base64.b64decode(line["result_base64"]), b"\xff\x00\n")

    def test_each_job_is_told_once_with_its_name(self):
        self.worker(self.under_test, "q=echo").start()
        got = self.results("--lines", "-", stdin=b"".join(b"%d\n" % i for i in range(scaled(5000))))
        self.assertEqual([line["result"] for line in got], [str(i) for i in range(scaled(5000))])
        broker_id = self.under_test.status()["broker"]
        self.assertEqual(len({line["id"] for line in got}), len(got))
        for line in got:
            self.assertRegex(line["id"], f"^{broker_id}-[0-9]+$")
            self.assertEqual(line["attempts"], 1)

    def test_results_go_to_stdout_on_request(self):
        self.worker(self.under_test, "q=echo").start()
        process = self.submit("--wait", "--results", "-", "hello")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(json.loads(process.stdout)["result"], "hello")

    def test_without_wait_the_confirmed_ids_are_enough(self):
        process = self.submit("--lines", "-", stdin=b"a\nb\n")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(self.under_test.jobs()["ready"], 2)
        self.assertIn(self.under_test.status()["broker"].encode(), process.stdout)

    def test_max_attempts_and_dead_jobs(self):
        self.under_test.kill()
        self.under_test = self.broker("--backoff", "1ms..2ms", name="second").start()
        self.worker(self.under_test, f"q=exec:{shlex.quote('echo broken >&2; exit 3')}", "ok=echo").start()
        path = self.dir / "results"
        process = self.submit("--wait", "--results", path, "--max-attempts", "2", "x")
        self.assertEqual(process.returncode, 1, process.stderr)
        [line] = [json.loads(line) for line in read_lines(path)]
        self.assertEqual((line["state"], line["attempts"]), ("dead", 2))
        self.assertIn("broken", line["error"])
        [dead] = json.loads(self.under_test.get("/v1/dead")[1])["dead"]
        self.assertEqual((dead["id"], dead["queue"], dead["failures"]), (line["id"], "q", 2))


class ExecTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.under_test = self.broker("--backoff", "1ms..5ms").start()

    def run_jobs(self, command, payloads, *flags):
        """The result lines, in the order of the payloads."""
        self.worker(self.under_test, f"q=exec:{command}").start()
        path = self.dir / "results"
        process = self.produce("submit", self.under_test, "--queue", "q", "--lines", "-", "--wait", "--results", path,
                               *flags, stdin="\n".join(payloads).encode())
        self.assertIn(process.returncode, (0, 1), process.stderr)
        return sorted((json.loads(line) for line in read_lines(path)), key=lambda line: line["seq"])

    def test_payload_environment_and_result(self):
        got = self.run_jobs('cat; echo " $MILLRACE_JOB_ID $MILLRACE_QUEUE $MILLRACE_ATTEMPT $MILLRACE_EPOCH"',
                            ["one", "two", "x" * 200_000])
        epochs = set()
        for line, payload in zip(got, ["one", "two", "x" * 200_000]):
            text, job, queue, attempt, epoch = line["result"].split()
            self.assertEqual((text, job, queue, attempt), (payload, line["id"], "q", "1"))
            epochs.add(int(epoch))
        self.assertEqual(len(epochs), 3)

    def test_exit_codes(self):
        # The payload is a shell's command line; the first attempt of "later" fails.
        payloads = {
            "exit 0": ("done", 1), "exit 65": ("dead", 1), "exit 75": ("dead", 3), "exit 1": ("dead", 3),
            "test $MILLRACE_ATTEMPT -ge 2": ("done", 2), "kill -SEGV $$": ("dead", None), "exit 127": ("dead", 3),
        }
        got = self.run_jobs("exec sh -s", list(payloads), "--max-attempts", "3")
        for (command, (state, attempts)), line in zip(payloads.items(), got):
            with self.subTest(command=command):
                self.assertEqual(line["state"], state)
                if attempts:
                    self.assertEqual(line["attempts"], attempts)
        totals = self.under_test.status()["totals"]
        self.assertGreater(totals["crashes"], 1)
        self.assertEqual(totals["failures"], 1 + 3 + 3 + 1 + 3)

    def test_a_command_that_reads_nothing(self):
        [line] = self.run_jobs("true", ["x" * 1_000_000])
        self.assertEqual((line["state"], line["result"]), ("done", ""))

    def test_a_result_above_the_limit_is_permanent(self):
        [line] = self.run_jobs("head -c 2000000 /dev/zero", ["x"])
        self.assertEqual((line["state"], line["attempts"]), ("dead", 1))

    def test_handlers_leave_no_process_and_no_descriptor(self):
        worker = self.worker(self.under_test, "q=exec:cat", name="steady").start()
        fds = f"/proc/{worker.pid}/fd"
        self.under_test.wait_workers(1)
        submit = lambda: self.assertEqual(0, self.produce(
            "submit", self.under_test, "--queue", "q", "--lines", "-", "--wait", stdin=b"x\n" * 50).returncode)
        submit()
        before = len(os.listdir(fds))
        submit()
        wait_until(lambda: len(os.listdir(fds)) <= before, what="descriptors being closed")
        children_of = lambda parent: [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == parent]
        [guard] = children_of(worker.pid)
        [spawn_server] = children_of(guard)
        wait_until(lambda: not children_of(spawn_server), what="the end of all commands")


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return int(stat.read().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return None


class QueuesTest(harness.Case):
    def test_one_worker_draws_from_several_queues(self):
        broker = self.broker().start()
        self.worker(broker, "a=echo", "b=exec:tr a-z A-Z").start()
        for queue, expected in (("a", "text"), ("b", "TEXT")):
            process = self.produce("submit", broker, "--queue", queue, "--wait", "--results", "-", "text")
            self.assertEqual(json.loads(process.stdout)["result"], expected)
        names = {queue["name"]: queue["done"] for queue in broker.status()["queues"]}
        self.assertEqual(names, {"a": 1, "b": 1})

    def test_status_of_the_command_line(self):
        broker = self.broker().start()
        self.worker(broker, "a=echo").start()
        broker.wait_workers(1)
        process = self.run_program("millrace-broker", "status", "--json", "--http", broker.http)
        status = json.loads(process.stdout)
        self.assertEqual(process.returncode, 0)
        self.assertEqual((status["state"], status["fsync"], len(status["workers"])), ("serving", "always", 1))
        for state in ("scheduled", "ready", "leased", "retry_wait", "done", "dead", "cancelled", "expired"):
            self.assertEqual(status["jobs"][state], 0)
        text = self.run_program("millrace-broker", "status", "--http", broker.http)
        self.assertIn(b"serving", text.stdout)

    def test_without_sync_the_answer_says_buffered(self):
        for mode in ("never", "interval:50ms"):
            broker = self.broker("--fsync", mode, name=f"broker-{mode[:5]}").start()
            self.worker(broker, "q=echo", name=f"worker-{mode[:5]}").start()
            self.assertEqual(broker.status()["durability"], "buffered")
            submitted = json.loads(self.produce("submit", broker, "--queue", "q", "--json", "x").stdout)
            self.assertEqual(submitted["durability"], "buffered")
            loaded = json.loads(self.produce("load", broker, "--queue", "q", "--count", 10, "--json").stdout)
            self.assertEqual((loaded["confirmed"], loaded["buffered"]), (10, 10))


if __name__ == "__main__":
    unittest.main(verbosity=2)
