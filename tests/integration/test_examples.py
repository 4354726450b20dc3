"""The examples work, and the protocol page is enough: its Python clients speak with the real programs."""
import json
import sqlite3
import subprocess
import unittest

import harness
from harness import scaled, wait_until

EXAMPLES = harness.ROOT / "examples"
PYTHON = "/usr/bin/python3"


class PythonClientsTest(harness.Case):
    def python_worker(self, broker, name="python-worker"):
        return harness.Process(self, name, [PYTHON, EXAMPLES / "python/worker.py", "--broker", broker.backend,
                                            "--queue", "words"])

    def python_producer(self, broker, lines):
        (self.dir / "lines").write_text("\n".join(lines))
        with open(self.dir / "lines", "rb") as stdin:
            return harness.Process(self, "python-producer", [PYTHON, EXAMPLES / "python/producer.py", "--broker",
                                                             broker.frontend, "--queue", "words"], stdin=stdin).start()

    def results(self, process):
        code = process.wait()
        lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
        self.assertEqual([line for line in lines if line["state"] != "done" or "result" not in line], [])
        self.assertEqual(code, 0, process.text()[-1000:])
        return sorted(lines, key=lambda line: line["seq"])

    def test_a_python_worker_for_our_producer(self):
        broker = self.broker().start()
        worker = self.python_worker(broker).start()
        count = scaled(2000)
        process = self.produce("submit", broker, "--queue", "words", "--lines", "-", "--wait", "--results", "-",
                               stdin="".join(f"a b a {i}\n" for i in range(count)).encode())
        self.assertEqual(process.returncode, 0, process.stderr)
        for line in map(json.loads, process.stdout.splitlines()):
            self.assertEqual(json.loads(line["result"])["a"], 2)
        self.assertEqual(worker.terminate(), 0)
        self.assertEqual(broker.jobs()["done"], count)
        self.assertEqual(broker.status()["totals"]["attempts"], count)

    def test_what_a_python_worker_refuses_is_dead(self):
        broker = self.broker().start()
        self.python_worker(broker).start()
        process = self.produce("submit", broker, "--queue", "words", "--wait", "--results", "-", stdin=b"\xff\xfe")
        line = json.loads(process.stdout)
        self.assertEqual((line["state"], line["attempts"]), ("dead", 1))
        self.assertIn("not UTF-8", line["error"])

    def test_a_python_producer_for_our_worker(self):
        broker = self.broker().start()
        self.worker(broker, "words=echo").start()
        count = scaled(5000)
        got = self.results(self.python_producer(broker, [f"line {i}" for i in range(count)]))
        self.assertEqual([line["result"] for line in got], [f"line {i}" for i in range(count)])
        self.assertEqual(broker.jobs()["done"], count)

    def test_both_survive_a_broker_that_is_killed(self):
        broker = self.broker().start()
        for name in ("one", "two"):
            self.python_worker(broker, name).start()
        broker.wait_workers(2)
        count = scaled(3000)
        process = self.python_producer(broker, [f"word{i}" for i in range(count)])
        for part in (4, 2):
            wait_until(lambda: broker.jobs()["done"] >= count // part, what="some jobs being done")
            broker.restart()
        got = self.results(process)
        self.assertEqual({line["state"] for line in got}, {"done"})
        self.assertEqual([line["seq"] for line in got], list(range(1, count + 1)))
        status = broker.status()
        self.assertEqual((status["jobs"]["done"], status["totals"]["accepted"]), (count, count))
        # What ran went on, and what had not arrived went to others: no worker counts as lost.
        self.assertEqual((status["totals"]["crashes"], status["totals"]["failures"]), (0, 0))


class SqliteTest(harness.Case):
    def test_each_order_is_charged_once_though_workers_are_killed(self):
        broker = self.broker("--backoff", "1ms..20ms", "--heartbeat", "200ms", "--crash-limit", 100).start()
        bank, count = self.dir / "bank.db", 400
        command = f"payments=stream:{PYTHON} {EXAMPLES}/sqlite-handler/handler.py {bank}"
        first = self.worker(broker, command, pool="fixed:2", name="first").start()
        broker.wait_workers(1)
        orders = "".join(json.dumps({"account": f"user{i % 7}", "cents": i + 1}) + "\n" for i in range(count))
        submitted = self.produce("submit", broker, "--queue", "payments", "--ndjson", "-", stdin=orders.encode())
        self.assertEqual(submitted.returncode, 0, submitted.stderr)
        wait_until(lambda: broker.jobs()["done"] > count // 10, what="some orders being charged")
        first.kill()  # between an effect and its DONE, as likely as not
        self.worker(broker, command, pool="fixed:2", name="second").start()
        broker.wait_jobs(done=count, leased=0)
        with sqlite3.connect(bank) as db:
            charged, receipts = db.execute("SELECT (SELECT sum(cents) FROM accounts), (SELECT count(receipt) FROM jobs)").fetchone()
        self.assertEqual((charged, receipts), (count * (count + 1) // 2, count))

    def run_handler(self, *jobs):
        lines = "".join(json.dumps(job) + "\n" for job in jobs)
        process = subprocess.run([PYTHON, EXAMPLES / "sqlite-handler/handler.py", self.dir / "bank.db"], check=True,
                                 input=lines, capture_output=True, text=True, timeout=30)
        return [json.loads(line) for line in process.stdout.splitlines()]

    def test_the_same_job_again_gets_the_same_receipt(self):
        job = {"id": "b-1", "epoch": 5, "payload": '{"account": "alice", "cents": 250}'}
        first, again, newer = self.run_handler(job, job, {**job, "epoch": 9})
        self.assertEqual(first["result"], "charged 250 to alice for job b-1")
        self.assertEqual([first, first], [again, newer])
        with sqlite3.connect(self.dir / "bank.db") as db:
            self.assertEqual(db.execute("SELECT cents FROM accounts").fetchall(), [(250,)])

    def test_an_older_attempt_does_not_come_through(self):
        job = {"id": "b-1", "epoch": 5, "payload": '{"account": "alice", "cents": 250}'}
        self.run_handler()
        with sqlite3.connect(self.dir / "bank.db") as db:
            db.execute("INSERT INTO jobs VALUES ('b-1', 6, NULL)")  # a newer one has begun
        [answer] = self.run_handler(job)
        self.assertIn("newer attempt", answer["error"])
        [answer] = self.run_handler({**job, "id": "b-2", "payload": "{}"})
        self.assertEqual(answer["kind"], "permanent")


if __name__ == "__main__":
    unittest.main()
