"""load: an open loop, in the shapes that users measure with."""
import csv
import json
import os
import re
import shutil
import signal
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import harness
from harness import UNREACHABLE, USAGE, read_lines, scaled, wait_until

COLUMNS = ["time_s", "sent", "confirmed", "rejected", "completed", "failed", "confirm_p50_ms", "confirm_p99_ms",
           "latency_p50_ms", "latency_p99_ms", "queue_depth"]


class LoadCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.under_test = self.broker().start()

    def load(self, *flags, deadline=90):
        return self.produce("load", self.under_test, "--json", *flags, deadline=deadline)

    def report(self, *flags):
        process = self.load(*flags)
        self.assertEqual(process.returncode, 0, process.stderr.decode() + process.stdout.decode())
        return json.loads(process.stdout)

    def rows(self, path):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0]), COLUMNS)
        return rows


class OpenLoopTest(LoadCase):
    def test_a_broker_that_stands_still_is_seen_in_the_latencies(self):
        """No coordinated omission: what was due meanwhile is sent, and counts from when it was due."""
        self.worker(self.under_test, "bench=echo").start()
        self.under_test.wait_workers(1)
        run = self.producer("load", self.under_test, "--queue", "bench", "--rate", 500, "--duration", "4s", "--json",
                            "--csv", self.dir / "csv").start()
        wait_until(lambda: len(read_lines(self.dir / "csv")) > 1, what="the first second")
        self.under_test.send_signal(signal.SIGSTOP)
        time.sleep(1)
        self.under_test.send_signal(signal.SIGCONT)
        self.assertEqual(run.wait(), 0)
        report = run.report()
        self.assertEqual(report["completed"], 2000)
        # A quarter of all was due in that second: its latencies are spread from 1 s to 0.
        self.assertGreater(report["latency_ms"]["max"], 900)
        self.assertGreater(report["latency_ms"]["p90"], 400)
        self.assertGreater(report["confirm_ms"]["p90"], 400)

    def test_warm_up_is_in_the_books_and_not_in_the_figures(self):
        self.worker(self.under_test, "bench=echo").start()
        report = self.report("--queue", "bench", "--rate", 200, "--warm-up", "1s", "--duration", "2s", "--verify")
        self.assertEqual((report["sent"], report["completed"], report["verified"]["done"]), (600, 600, 600))
        self.assertEqual(report["warm_up"], {"seconds": 1.0, "confirmed": 200, "completed": 200})
        self.assertTrue(1.9 < report["seconds"] < 3, report)
        self.assertTrue(150 < report["rate"] <= 210, report)


class ShapeTest(LoadCase):
    def test_a_ramp_rises(self):
        self.worker(self.under_test, "bench=echo").start()
        path = self.dir / "csv"
        report = self.report("--queue", "bench", "--rate", "0..800", "--duration", "4s", "--csv", path)
        self.assertEqual(report["completed"], 1600)
        sent = [int(row["sent"]) for row in self.rows(path)[:4]]
        for second, count in enumerate(sent):  # 100, 300, 500, 700
            self.assertAlmostEqual(count, 100 + 200 * second, delta=80, msg=f"{sent}")

    def test_steps_follow_each_other(self):
        self.worker(self.under_test, "bench=echo").start()
        path = self.dir / "csv"
        report = self.report("--queue", "bench", "--rate", "100:2s,500:1s,0:1s,50:1s", "--csv", path)
        self.assertEqual(report["completed"], 200 + 500 + 50)
        sent = [int(row["sent"]) for row in self.rows(path)[:5]]
        for expected, count in zip((100, 100, 500, 0, 50), sent):
            self.assertAlmostEqual(count, expected, delta=45, msg=f"{sent}")

    def test_several_producers_share_rate_and_count_and_their_books_balance(self):
        self.worker(self.under_test, "bench=echo").start()
        ledger = self.dir / "ledger"
        report = self.report("--queue", "bench", "--rate", 1000, "--count", 1501, "--clients", 4, "--verify",
                             "--ledger", ledger)
        self.assertEqual((report["clients"], report["sent"], report["completed"]), (4, 1501, 1501))
        self.assertEqual(report["verified"]["done"], 1501)
        self.assertTrue(1.4 < report["seconds"] < 4, report)
        ledgers = [self.dir / f"ledger.{number}" for number in range(1, 5)]
        producers = {json.loads(read_lines(path)[0])["producer"] for path in ledgers}
        self.assertEqual(len(producers), 4)
        books = self.audit(self.under_test, *ledgers)
        self.assertEqual((books["sent"], books["done"]), (1501, 1501))

    def test_several_producers_as_fast_as_possible(self):
        self.worker(self.under_test, "bench=echo").start()
        count = scaled(100_000)
        report = self.report("--queue", "bench", "--rate", "max", "--count", count, "--clients", 3, "--verify")
        self.assertEqual((report["completed"], report["verified"]["done"]), (count, count))

    def test_a_mix_of_queues_keeps_its_weights(self):
        self.worker(self.under_test, "mail=echo", "images=echo").start()
        report = self.report("--queue-mix", "mail=3,images=1", "--rate", 2000, "--count", 4000, "--clients", 2)
        self.assertEqual(report["completed"], 4000)
        self.assertAlmostEqual(report["queues"]["mail"]["sent"], 3000, delta=4)
        self.assertAlmostEqual(report["queues"]["images"]["sent"], 1000, delta=4)
        queues = {queue["name"]: queue for queue in json.loads(self.under_test.get("/v1/queues")[1])["queues"]}
        self.assertEqual(set(queues), {"mail", "images"})

    def test_results_of_many_sizes_are_compared(self):
        self.worker(self.under_test, "bench=echo").start()
        report = self.report("--queue", "bench", "--rate", "max", "--count", 500, "--size", "0..2KiB:80%,50KiB:20%",
                             "--report", "result")
        self.assertEqual((report["completed"], report["mismatched"]), (500, 0))

    def test_flags_that_mean_nothing(self):
        for flags, word in ((["--queue", "a", "--queue-mix", "a=1"], "not both"), ([], "--queue"),
                            (["--queue", "a", "--rate", "5:1s", "--duration", "3s"], "--duration"),
                            (["--queue", "a", "--rate", "5..9", "--count", "3"], "needs a duration"),
                            (["--queue", "a", "--rate", "0..9:1s", "--warm-up", "1s"], "--warm-up"),
                            (["--queue", "a", "--rate", "quick"], "ramp"),
                            (["--queue", "a", "--size", "64:90%"], "less than 100"),
                            (["--queue", "a", "--plot", "x.pdf"], ".svg"),
                            (["--queue", "a", "--clients", "0"], "--clients")):
            self.assert_exit(self.load(*flags), USAGE, word)


class RowsTest(LoadCase):
    def test_each_second_has_a_row_and_the_rows_add_up(self):
        self.worker(self.under_test, "bench=sleep:5ms", pool="fixed:1").start()
        path = self.dir / "csv"
        report = self.report("--queue", "bench", "--rate", 400, "--duration", "2s", "--csv", path, "--clients", 2)
        rows = self.rows(path)
        for column in ("sent", "confirmed", "completed"):
            self.assertEqual(sum(int(row[column]) for row in rows), report[column], column)
        times = [float(row["time_s"]) for row in rows]
        self.assertEqual([round(moment) for moment in times[:3]], [1, 2, 3])
        # 400 a second come, at most 200 are done: half of them wait.
        self.assertTrue(200 <= int(rows[1]["queue_depth"]) <= 800, rows[1])
        self.assertEqual(int(rows[-1]["queue_depth"]), 0)
        self.assertGreater(float(rows[1]["latency_p99_ms"]), 100)

    def test_without_waiting_there_is_no_depth(self):
        path = self.dir / "csv"
        self.report("--queue", "bench", "--rate", 100, "--duration", "1s", "--csv", path, "--no-wait")
        self.assertEqual({row["queue_depth"] for row in self.rows(path)}, {""})

    def test_a_picture_is_drawn(self):
        if not shutil.which("gnuplot"):
            self.skipTest("no gnuplot here")
        self.worker(self.under_test, "bench=sleep:5ms", pool="fixed:1").start()
        picture = self.dir / "it's a load.svg"
        self.report("--queue", "bench", "--rate", "100..300", "--duration", "3s", "--plot", picture)
        root = ElementTree.parse(picture).getroot()
        self.assertTrue(root.tag.endswith("svg"))
        text = " ".join(root.itertext())
        for word in ("jobs a second", "milliseconds", "seconds since the start", "confirmed", "queue depth", "p99"):
            self.assertIn(word, text)
        png = self.dir / "load.png"
        self.report("--queue", "bench", "--rate", "max", "--count", 10, "--plot", png)
        self.assertEqual(png.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_without_gnuplot_nothing_is_sent(self):
        env = {**os.environ, "PATH": str(self.dir)}
        saved, os.environ["PATH"] = os.environ["PATH"], env["PATH"]
        try:
            process = self.load("--queue", "bench", "--count", 10, "--plot", self.dir / "x.svg")
        finally:
            os.environ["PATH"] = saved
        self.assert_exit(process, UNREACHABLE, "gnuplot-nox")
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 0)


class EndTest(LoadCase):
    def test_an_interrupt_ends_all_producers_and_tells_what_is_left(self):
        run = self.producer("load", self.under_test, "--queue", "bench", "--rate", 200, "--clients", 3, "--duration",
                            "1m", "--json", "--csv", self.dir / "csv").start()
        wait_until(lambda: len(read_lines(self.dir / "csv")) > 1, what="the first second")
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(), 130)
        report = run.report()
        self.assertEqual(report["confirmed"], report["awaited"])
        self.assertIn("without an end yet", run.text())

    def test_sigterm_ends_the_schedule_and_what_was_sent_is_finished(self):
        worker = self.worker(self.under_test, "bench=sleep:20ms").start()
        run = self.producer("load", self.under_test, "--queue", "bench", "--rate", 200, "--clients", 3, "--duration",
                            "1m", "--verify", "--json", "--csv", self.dir / "csv").start()
        wait_until(lambda: len(read_lines(self.dir / "csv")) > 1, what="the first second")
        worker.send_signal(signal.SIGSTOP)  # so that there is something to wait for
        run.send_signal(signal.SIGTERM)
        rows = len(read_lines(self.dir / "csv"))
        wait_until(lambda: len(read_lines(self.dir / "csv")) > rows + 1, what="a second more")
        self.assertLess(run.cpu_seconds(), 1, "it spins")
        worker.send_signal(signal.SIGCONT)
        self.assertEqual(run.wait(), 0, run.text())
        report = run.report()
        self.assertTrue(0 < report["sent"] < 200 * 60)
        self.assertEqual((report["completed"], report["balanced"]), (report["sent"], True))

    def test_a_second_sigterm_ends_what_the_first_waits_for(self):
        run = self.producer("load", self.under_test, "--queue", "nobody", "--rate", 200, "--duration", "1m", "--csv",
                            self.dir / "csv").start()
        wait_until(lambda: len(read_lines(self.dir / "csv")) > 1, what="the first second")
        run.send_signal(signal.SIGTERM)
        rows = len(read_lines(self.dir / "csv"))
        wait_until(lambda: len(read_lines(self.dir / "csv")) > rows + 1, what="a second more")
        run.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 130, run.text())
        self.assertIn("without an end yet", run.text())

    def test_sigterm_before_a_broker_has_answered_is_an_interrupt(self):
        self.under_test.kill()
        for clients in (1, 3):
            run = self.producer("load", self.under_test, "--queue", "bench", "--clients", clients, "--duration", "1s",
                                "--json", name=f"load-{clients}").start()
            blocked = re.compile(r"^SigBlk:\s*(\w+)", re.MULTILINE)
            status = Path(f"/proc/{run.child.pid}/status")
            wait_until(lambda: int(blocked.search(status.read_text())[1], 16) >> (signal.SIGTERM - 1) & 1,
                       what="a signal that is waited for")
            run.send_signal(signal.SIGTERM)
            self.assertEqual(run.wait(), 130, run.text())
            self.assertIn("interrupted", run.text())

    def test_a_load_goes_on_over_a_kill_of_the_broker(self):
        self.worker(self.under_test, "bench=echo").start()
        run = self.producer("load", self.under_test, "--queue", "bench", "--rate", 500, "--duration", "5s", "--clients",
                            3, "--verify", "--json", "--csv", self.dir / "csv").start()
        wait_until(lambda: len(read_lines(self.dir / "csv")) > 1, what="the first second")
        self.under_test.restart()
        self.assertEqual(run.wait(), 0, run.text())
        report = run.report()
        self.assertEqual((report["sent"], report["completed"], report["balanced"]), (2500, 2500, True))


if __name__ == "__main__":
    unittest.main()
