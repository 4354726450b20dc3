"""What people do to jobs and queues of a running broker: show, cancel, pause, purge, set, retry."""
import json
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import harness
from harness import BAD_DATA, UNREACHABLE, USAGE, read_lines, wait_until


class OperationsCase(harness.Case):
    flags = ()

    def setUp(self):
        super().setUp()
        self.under_test = self.broker("--heartbeat", "300ms", *self.flags).start()

    def submit(self, *flags, queue="q"):
        """The id of one job."""
        process = self.produce("submit", self.under_test, "--queue", queue, *flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process.stdout.decode().strip()

    def operate(self, *words):
        """A command of the broker; it has to succeed."""
        process = self.run_program("millrace-broker", *words, "--http", self.under_test.http)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process.stdout.decode()

    def asked(self, *words):
        return json.loads(self.operate(*words, "--json"))

    def job(self, name):
        return self.asked("job", "show", name)

    def wait_state(self, name, state):
        wait_until(lambda: self.job(name)["state"] == state, what=f"{name} being {state}")

    def witness(self, then="true", **options):
        """A worker that appends each payload to a file, then does more."""
        path = self.dir / "witness"
        return self.worker(self.under_test, f"q=exec:cat >>{path}; echo >>{path}; {then}", **options)

    def ran(self):
        return read_lines(self.dir / "witness")

    def settings(self, queue="q"):
        [found] = [q for q in self.asked("queue", "ls")["queues"] if q["name"] == queue]
        return found["settings"]


class JobTest(OperationsCase):
    def test_a_delayed_job_says_when_it_is_due(self):
        before = time.time() * 1000
        name = self.submit("--delay", "1h", "x")
        job = self.job(name)
        self.assertEqual((job["id"], job["state"], job["queue"]), (name, "scheduled", "q"))
        self.assertAlmostEqual(job["due_ms"], before + 3_600_000, delta=60_000)
        why = self.operate("job", "why", name)
        self.assertEqual(why.count("\n"), 1)
        self.assertIn(f"{name} is scheduled: due in 59 min ", why)
        self.assertIn("scheduled", self.operate("status"))
        soon = self.submit("--delay", "700ms", "y")
        self.worker(self.under_test, "q=echo").start()
        self.wait_state(soon, "done")
        self.assertEqual(self.job(name)["state"], "scheduled")

    def test_why_a_ready_job_waits(self):
        name = self.submit("x")
        self.assertIn("no worker is connected for queue q", self.operate("job", "why", name))
        self.worker(self.under_test, "q=echo").start()
        self.wait_state(name, "done")
        self.assertIn("is done", self.operate("job", "why", name.split("-")[1]))

    def test_cancel_of_a_job_that_waits_and_of_one_that_runs(self):
        waits = self.submit("--delay", "1h", "x")
        self.operate("job", "cancel", waits)
        self.assertEqual(self.job(waits)["state"], "cancelled")
        go = self.dir / "go"
        worker = self.witness(then=f"for i in $(seq 300); do test -e {go} && exit; sleep 0.1; done").start()
        runs = self.submit("slow")
        wait_until(lambda: self.ran() == ["slow"], what="the job running")
        self.assertIn("leased by", self.operate("job", "why", runs))
        answer = self.asked("job", "cancel", runs)
        self.assertEqual((answer["cancelled"], answer["was"]), (1, "leased"))
        self.assertEqual(self.asked("job", "cancel", runs)["cancelled"], 0)
        self.under_test.wait_jobs(cancelled=2, leased=0, ready=0)
        self.under_test.restart()
        self.under_test.wait_workers(1)
        go.touch()
        self.assertEqual(worker.terminate(), 0)
        self.under_test.wait_jobs(cancelled=2, leased=0, ready=0, done=0)  # its late answer changed nothing

    def test_a_job_expires(self):
        name = self.submit("--ttl", "300ms", "x")
        self.assertIsNotNone(self.job(name).get("expires_ms"))
        self.under_test.wait_jobs(expired=1, ready=0)
        self.witness().start()
        self.under_test.wait_workers(1)
        last = self.submit("y")
        self.wait_state(last, "done")
        self.assertEqual(self.ran(), ["y"])
        self.assertEqual(self.job(name)["state"], "expired")

    def test_a_key_stands_for_its_job(self):
        first = self.submit("--key", "order-1", "x")
        self.assertEqual(self.submit("--key", "order-1", "x"), first)
        process = self.produce("submit", self.under_test, "--queue", "q", "--key", "order-1", "--json", "x")
        self.assertEqual(json.loads(process.stdout)["known"], 1)
        self.assertIn(b"refers to an existing job", process.stderr)
        self.under_test.restart()
        self.assertEqual(self.submit("--key", "order-1", "x"), first)
        self.assertNotEqual(self.submit("--key", "order-2", "x"), first)
        self.assertEqual(self.under_test.jobs()["ready"], 2)

    def test_priorities_go_first(self):
        for priority in (1, 9, 4, 7):
            self.submit("--priority", priority, f"p{priority}")
        self.witness(pool="fixed:1", flags=("--prefetch", 1)).start()
        self.under_test.wait_jobs(done=4)
        self.assertEqual(self.ran(), ["p9", "p7", "p4", "p1"])

    def test_what_goes_wrong_has_its_exit_code(self):
        broker = self.under_test
        run = lambda *words: self.run_program("millrace-broker", *words, "--http", broker.http)
        self.assert_exit(run("job", "show", "99"), BAD_DATA, "99")
        self.assert_exit(run("job", "show", "00000000-1"), BAD_DATA, "this is broker", broker.status()["broker"])
        self.assert_exit(run("job", "explode", "1"), USAGE, "explode", "ls, or show, why, payload or cancel")
        self.assert_exit(run("queue", "purge", "nowhere"), BAD_DATA, "nowhere")
        self.assert_exit(run("dead", "drop"), USAGE, "--all")
        broker.kill()
        self.assert_exit(run("job", "show", "1"), UNREACHABLE, broker.http)


class JobListTest(OperationsCase):
    def test_jobs_are_listed_by_filters_and_page_by_page(self):
        names = [self.submit("--delay", "6h", f"j{i}") for i in range(3)] + [self.submit("x", queue="other")]
        listed = self.asked("job", "ls")
        self.assertEqual([job["id"] for job in listed["jobs"]], names)
        self.assertIsNone(listed["next"])
        table = self.operate("job", "ls", "--queue", "q", "--state", "scheduled", "--limit", "2")
        self.assertIn("in 5 h 59 min", table)
        self.assertIn("--limit", table)
        self.assertNotIn(names[2], table)
        self.assertEqual([job["id"] for job in self.asked("job", "ls", "--state", "ready")["jobs"]], names[3:])
        first = json.loads(self.under_test.get("/v1/jobs?limit=3")[1])
        rest = json.loads(self.under_test.get(f"/v1/jobs?limit=3&cursor={first['next']}")[1])
        self.assertEqual([job["id"] for job in first["jobs"] + rest["jobs"]], names)
        run = lambda *words: self.run_program("millrace-broker", *words, "--http", self.under_test.http)
        self.assert_exit(run("job", "ls", "--queue", "nowhere"), BAD_DATA, "nowhere")
        self.assert_exit(run("job", "ls", "--state", "done"), BAD_DATA, "retry-wait")
        self.assert_exit(run("job", "ls", "--key", "k"), USAGE, "--queue")


class PayloadTest(OperationsCase):
    flags = ("--memory", "1KiB")

    def payload(self, name):
        """(content type, whether it is to be saved, bytes)"""
        with urllib.request.urlopen(f"http://{self.under_test.http}/v1/jobs/{name}/payload") as answer:
            headers = answer.headers
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertIn("sandbox", headers["Content-Security-Policy"])
            return headers["Content-Type"], "attachment" in (headers["Content-Disposition"] or ""), answer.read()

    def test_a_payload_is_shown_from_the_journal_too(self):
        names = [self.submit("--delay", "1h", text) for text in ('{"to": "x"}', "<script>alert(1)</script>", "")]
        self.submit("--delay", "1h", "x" * 5000)  # those before are in the journal only
        self.assertEqual(self.payload(names[0]), ("application/json", False, b'{"to": "x"}'))
        self.assertEqual(self.payload(names[1])[:2], ("text/plain; charset=utf-8", False))
        self.assertEqual(self.payload(names[2])[2], b"")
        self.assertEqual(self.operate("job", "payload", names[1]), "<script>alert(1)</script>")
        self.assertEqual(self.asked("job", "payload", names[0])["payload"], '{"to": "x"}')
        self.under_test.restart()
        self.assertEqual(self.operate("job", "payload", names[0]), '{"to": "x"}')
        self.operate("job", "cancel", names[0])
        process = self.run_program("millrace-broker", "job", "payload", names[0], "--http", self.under_test.http)
        self.assert_exit(process, BAD_DATA, "cancelled", "not stored")


class QueueTest(OperationsCase):
    def test_a_paused_queue_waits_until_it_is_resumed(self):
        self.witness().start()
        self.under_test.wait_workers(1)
        self.assertEqual(self.operate("queue", "pause", "q"), "q: paused\n")
        names = [self.submit(f"j{i}") for i in range(3)]
        self.assertIn("queue q is paused", self.operate("job", "why", names[0]))
        self.under_test.restart()
        self.under_test.wait_workers(1)
        self.assertIn("queue q is paused", self.operate("job", "why", names[0]))
        self.assertEqual(self.ran(), [])
        self.operate("queue", "resume", "q")
        self.under_test.wait_jobs(done=3)

    def test_a_queue_is_deleted_once_it_is_empty(self):
        self.submit("--delay", "1h", "x")
        self.operate("queue", "set", "q", "--weight", "7")
        process = self.run_program("millrace-broker", "queue", "delete", "q", "--http", self.under_test.http)
        self.assert_exit(process, BAD_DATA, "holds 1 jobs", "purge")
        self.operate("queue", "purge", "q")
        self.assertEqual(self.operate("queue", "delete", "q"), "q is deleted\n")
        self.assertEqual(self.under_test.status()["queue_count"], 0)
        self.submit("--delay", "1h", "x")
        self.assertEqual(self.settings()["weight"], 1)
        self.assertIn("an operator deleted a queue", self.under_test.text())

    def test_purge_takes_all_that_nobody_runs(self):
        go = self.dir / "go"  # the job runs until the test says so, or for a minute
        until_told = f"n=0; until [ -e {go} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n + 1)); done"
        self.witness(then=until_told, pool="fixed:1", flags=("--prefetch", 1)).start()
        runs = self.submit("runs")
        wait_until(lambda: self.ran() == ["runs"], what="one job running")
        self.operate("queue", "set", "q", "--concurrency", 1)
        waiting = [self.submit("waits"), self.submit("--delay", "1h", "later")]
        self.submit("elsewhere", queue="other")
        self.assertEqual(self.operate("queue", "purge", "q"), "2 jobs purged\n")
        self.assertEqual([self.job(name)["state"] for name in waiting], ["cancelled", "cancelled"])
        go.touch()
        self.wait_state(runs, "done")
        self.assertEqual(self.under_test.jobs()["ready"], 1)

    def test_a_full_queue_holds_a_producer_or_fails_it_by_its_choice(self):
        self.operate("queue", "set", "q", "--max-length", 2)
        for payload in ("one", "two"):
            self.submit(payload)
        process = self.produce("submit", self.under_test, "--queue", "q", "--no-hold", "three")
        self.assert_exit(process, 75, "queue_full", "try again in")
        process = self.produce("submit", self.under_test, "--queue", "q", "--timeout", "1s", "three")
        self.assert_exit(process, 75, "timed out")
        self.assertEqual(self.under_test.jobs()["ready"], 2)

    def test_settings_survive_a_kill(self):
        self.operate("queue", "set", "q", "--weight", 3, "--order", "fair", "--rate", 7, "--max-length", 8,
                     "--max-attempts", 2, "--backoff", "20ms..1s", "--lease", "5s", "--ttl", "1h")
        self.operate("queue", "set", "q", "--concurrency", 2)
        self.under_test.restart()
        self.assertEqual(self.settings(), {
            "weight": 3, "order": "fair", "paused": False, "concurrency": 2, "rate": 7, "max_length": 8,
            "max_attempts": 2, "backoff_min_ms": 20, "backoff_max_ms": 1000, "lease_ms": 5000, "ttl_ms": 3_600_000})
        self.assertIn("concurrency=2", self.operate("queue", "ls"))

    def test_all_queues_are_listed_however_many(self):
        names = {f"tenant.{i}" for i in range(1100)}

        def make(name):
            request = urllib.request.Request(f"http://{self.under_test.http}/v1/queues/{name}", b'{"weight": 2}',
                                             {"Content-Type": "application/json"}, method="PATCH")
            urllib.request.urlopen(request, timeout=30).close()

        with ThreadPoolExecutor(8) as makers:
            list(makers.map(make, names))
        listed = self.asked("queue", "ls")
        found = [queue["name"] for queue in listed["queues"]]
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(names, set(found))
        self.assertEqual(listed["other_queues"]["queues"], 0)
        self.assertEqual(self.operate("queue", "ls").count("tenant."), len(names))

    def test_concurrency_holds_over_all_workers(self):
        self.operate("queue", "set", "q", "--concurrency", 1)
        lock = self.dir / "lock"
        # A second one at the same time finds the directory there, and fails for good.
        handler = f"q=exec:mkdir {lock} || exit 65; sleep 0.05; rmdir {lock}"
        for name in ("one", "two"):
            self.worker(self.under_test, handler, pool="fixed:4", name=name).start()
        self.under_test.wait_workers(2)
        process = self.produce("submit", self.under_test, "--queue", "q", "--lines", "-", stdin=b"x\n" * 20)
        self.assertEqual(process.returncode, 0, process.stderr)
        wait_until(lambda: sum(self.under_test.jobs()[state] for state in ("done", "dead")) == 20, what="20 jobs ending")
        self.assertEqual(self.under_test.jobs()["done"], 20, "two ran at a time")

    def test_a_queue_of_its_own_attempts(self):
        self.operate("queue", "set", "q", "--max-attempts", 2, "--backoff", "1ms..2ms")
        self.witness(then="exit 75").start()
        name = self.submit("x")
        self.wait_state(name, "dead")
        self.assertEqual(self.ran(), ["x", "x"])


class DeadTest(OperationsCase):
    def test_dead_jobs_are_retried_by_their_error(self):
        fix = self.dir / "fixed"
        command = f"q=exec:read x; test -e {fix} || {{ echo no $x >&2; exit 65; }}; echo $x"
        worker = self.worker(self.under_test, command).start()
        names = {text: self.submit(text) for text in ("mailbox", "luck", "money")}
        self.under_test.wait_jobs(dead=3)
        history = self.job(names["luck"])["history"]
        self.assertEqual([entry["attempt"] for entry in history], [1])
        self.assertIn("no luck", history[0]["error"])
        fix.touch()
        self.assertEqual(self.operate("dead", "retry", "--error", "no luck"), "1 job retried\n")
        self.wait_state(names["luck"], "done")
        self.assertEqual(self.asked("dead", "retry", "--older", "1h")["retried"], 0)
        self.assertEqual(self.asked("dead", "drop", names["money"])["dropped"], 1)
        self.assertEqual(self.asked("dead")["count"], 1)
        self.assertEqual(self.operate("dead", "retry", "--all", "--dry-run"), "1 dead job would be retried\n")
        [group] = self.asked("dead", "--group-by", "error")["groups"]
        self.assertEqual(group["jobs"], 1)
        self.assertIn(group["newest"], self.operate("dead", "ls", "--queue", "q", "--limit", "1"))
        self.assertEqual(self.operate("dead", "ls", "--error", "no such error"), "no such dead jobs\n")
        self.assertEqual(self.asked("dead", "retry", "--queue", "q")["retried"], 1)
        self.under_test.wait_jobs(done=2, dead=0, cancelled=1)
        self.assertEqual(worker.terminate(), 0)


class LongOperationTest(OperationsCase):
    """A purge of many jobs, in slices."""

    JOBS = harness.scaled(200_000)

    def fill(self):
        process = self.produce("load", self.under_test, "--queue", "q", "--count", self.JOBS, "--size", "1",
                               "--no-wait", "--quiet")
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_an_operation_is_followed_to_its_end(self):
        self.fill()
        begun = self.asked("queue", "purge", "q", "--no-wait")
        self.assertEqual((begun["kind"], begun["state"], begun["total"]), ("purge", "running", self.JOBS))
        kept = self.submit("later")
        path = f"/v1/operations/{begun['id']}"
        wait_until(lambda: json.loads(self.under_test.get(path)[1])["state"] == "done", what="the purge")
        self.assertEqual(json.loads(self.under_test.get(path)[1])["done"], self.JOBS)
        self.assertEqual(self.job(kept)["state"], "ready")
        self.under_test.wait_jobs(ready=1, cancelled=self.JOBS)
        self.assertIn("1 job purged", self.operate("queue", "purge", "q"))

    def test_kill_in_the_middle_leaves_nothing_half(self):
        self.fill()
        begun = self.asked("queue", "purge", "q", "--no-wait")
        seen = 0

        def some_are_purged():
            nonlocal seen
            status = json.loads(self.under_test.get(f"/v1/operations/{begun['id']}")[1])
            seen = status["done"]
            return seen > 0
        wait_until(some_are_purged, what="the first slices", interval=0)
        self.under_test.kill()
        self.under_test.start()
        jobs = self.under_test.jobs()
        self.assertGreaterEqual(jobs["cancelled"], seen)
        self.assertEqual(jobs["cancelled"] + jobs["ready"], self.JOBS)
        process = self.run_program("millrace-broker", "queue", "purge", "q", "--http", self.under_test.http)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.under_test.wait_jobs(ready=0, cancelled=self.JOBS)


class QuotaTest(OperationsCase):
    flags = ("--max-queued", "1000")

    def test_one_that_fills_the_broker_does_not_lock_the_others_out(self):
        full = self.produce("submit", self.under_test, "--queue", "q", "--no-hold", "--ndjson", "-", stdin=b"{}\n" * 1200)
        self.assert_exit(full, 75, "queue_full")
        self.assertLessEqual(self.under_test.jobs()["ready"], 1100)
        self.submit("y")
        self.under_test.restart()
        self.submit("z")


class ProducerQuotaTest(OperationsCase):
    flags = ("--max-queued-per-producer", "10")

    def test_a_producer_has_a_quota_of_its_own(self):
        process = self.produce("submit", self.under_test, "--queue", "q", "--no-hold", "--ndjson", "-", stdin=b"{}\n" * 12)
        self.assert_exit(process, 75, "quota", "--max-queued-per-producer")
        self.under_test.wait_jobs(ready=10)
        self.submit("y")
        status = self.under_test.status()
        self.assertEqual(status["limits"]["max_queued_per_producer"], 10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
