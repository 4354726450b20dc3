"""submit as users of GNU parallel expect it: joblog, resume, halt, results in order."""
import json
import os
import signal
import subprocess
import time
import unittest
from collections import Counter

import harness
from harness import BAD_DATA, CANT_CREATE, USAGE, read_lines, wait_until

HEADER = "Seq\tId\tQueue\tStart\tRuntime\tState\tAttempts\tHash\tError"


class SubmitCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.under_test = self.broker().start()
        self.joblog = self.dir / "joblog"
        self.input = self.dir / "input"
        self.witness = self.dir / "witness"

    def lines(self, count):
        self.input.write_text("".join(f"payload {number}\n" for number in range(1, count + 1)))

    def flags(self, *more):
        return ["--queue", "q", "--lines", self.input, "--joblog", self.joblog, *more]

    def submit(self, *more, stdin=None):
        return self.produce("submit", self.under_test, *self.flags(*more), stdin=stdin, deadline=60)

    def witnessing(self, pause="0.01", name="worker", pool="fixed:2"):
        """A worker whose handler appends each payload that it runs to a file."""
        command = f"exec:sh -c 'p=$(cat); echo \"$p\" >> {self.witness}; sleep {pause}; echo ok'"
        return self.worker(self.under_test, f"q={command}", name=name, pool=pool).start()

    def rows(self):
        header, *rows = read_lines(self.joblog)
        self.assertEqual(header, HEADER)
        return [dict(zip(HEADER.split("\t"), row.split("\t"))) for row in rows]

    def states(self):
        """The state of each payload by its last line."""
        return {int(row["Seq"]): row["State"] for row in self.rows()}

    def audit_ledger(self):
        return self.audit(self.under_test, self.dir / "joblog.ledger")


class JoblogTest(SubmitCase):
    def test_each_job_has_a_line(self):
        self.lines(10)
        self.worker(self.under_test, "q=sleep:50ms").start()
        before = time.time()
        self.assertEqual(self.submit("--wait").returncode, 0)
        rows = self.rows()
        self.assertEqual(sorted(int(row["Seq"]) for row in rows), list(range(1, 11)))
        for row in rows:
            self.assertEqual((row["Queue"], row["State"], row["Attempts"], row["Error"]), ("q", "done", "1", ""))
            self.assertTrue(before - 1 < float(row["Start"]) < time.time() + 1)
            self.assertGreaterEqual(float(row["Runtime"]), 0.05)
            self.assertRegex(row["Id"], "^[0-9a-f]{8}-[0-9]+$")
        self.assertEqual(len({row["Hash"] for row in rows}), 10)

    def test_an_earlier_joblog_is_not_overwritten(self):
        self.lines(1)
        self.assertEqual(self.submit().returncode, 0)
        self.assert_exit(self.submit(), CANT_CREATE, "--resume")
        self.assertEqual(len(self.rows()), 1)

    def test_a_resume_adds_what_is_new(self):
        self.lines(3)
        first = self.submit()
        self.lines(5)
        second = self.submit("--resume")
        self.assertEqual((first.returncode, second.returncode), (0, 0))
        self.assertEqual(len(first.stdout.split()), 3)
        self.assertEqual(len(second.stdout.split()), 2)
        self.assertEqual(self.states(), {number: "confirmed" for number in range(1, 6)})
        self.assertEqual(self.audit_ledger()["sent"], 5)

    def test_a_joblog_that_does_not_fit_is_refused_and_nothing_sent(self):
        self.lines(3)
        self.assertEqual(self.submit().returncode, 0)
        self.input.write_text("payload 1\nsomething else\npayload 3\npayload 4\n")
        self.assert_exit(self.submit("--resume"), BAD_DATA, "line 2", "another input")
        self.input.write_text("payload 1\n")
        self.assert_exit(self.submit("--resume"), BAD_DATA, "3 payloads", "nothing was sent")
        self.lines(3)
        wrong_queue = self.produce("submit", self.under_test, "--queue", "other", "--lines", self.input, "--joblog",
                                   self.joblog, "--resume")
        self.assert_exit(wrong_queue, BAD_DATA, "queue q, not other")
        other = self.broker(name="other").start()
        self.assert_exit(self.produce("submit", other, *self.flags("--resume")), BAD_DATA, "is broker")
        (self.dir / "joblog.ledger").rename(self.dir / "elsewhere")
        self.assert_exit(self.submit("--resume"), BAD_DATA, "no ledger")
        self.joblog.write_text("Seq\tHost\n1\tx\n")
        (self.dir / "elsewhere").rename(self.dir / "joblog.ledger")
        self.assert_exit(self.submit("--resume"), BAD_DATA, "joblog line 1")
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 3)

    def test_flags_that_do_not_go_together(self):
        self.lines(1)
        for flags, word in ((["--resume"], "--joblog"), (["--resume-failed"], "--joblog"),
                            (["--keep-order"], "--wait"), (["--halt", "soon,fail=1"], "--wait"),
                            (["--jobs", "3"], "--wait"), (["--wait", "--halt", "later,fail=1"], "soon,fail=3"),
                            (["--wait", "--halt", "now,fail=0"], "not a condition"),
                            (["--wait", "--halt", "now,fail=101%"], "not a condition")):
            process = self.produce("submit", self.under_test, "--queue", "q", "--lines", self.input, *flags)
            self.assert_exit(process, USAGE, word)

    def test_a_file_that_two_flags_name_is_refused_and_left_alone(self):
        self.lines(2)
        before = self.input.read_text()
        link, new, other_name = self.dir / "link", self.dir / "new", self.dir / "." / "sub" / ".." / "new"
        link.symlink_to(self.input)
        (self.dir / "sub").mkdir()
        for flags, names in ((["--lines", self.input, "--results", self.input], ["--lines", "--results"]),
                             (["--ndjson", self.input, "--results", link], ["--ndjson", "--results"]),
                             (["--lines", self.input, "--joblog", self.input], ["--lines", "--joblog"]),
                             (["--lines", link, "--ledger", self.input], ["--lines", "--ledger"]),
                             (["--lines", self.input, "--results", new, "--joblog", other_name], ["--results", "--joblog"]),
                             (["--lines", self.input, "--ledger", new, "--joblog", new], ["--joblog", "--ledger"]),
                             (["--lines", self.input, "--results", f"{new}.ledger", "--joblog", new],
                              ["--results", "the ledger of --joblog"])):
            with self.subTest(flags=flags):
                process = self.produce("submit", self.under_test, "--queue", "q", *flags)
                self.assert_exit(process, USAGE, *names, "one file")
                self.assertEqual(self.input.read_text(), before)
                self.assertFalse(new.exists())
        with self.input.open() as stdin:
            process = self.producer("submit", self.under_test, "--queue", "q", "--lines", "-", "--results", self.input)
            process.stdin = stdin
            self.assertEqual(process.start().wait(), USAGE, process.text())
        self.assertEqual(self.input.read_text(), before)
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 0)

    def test_what_is_no_regular_file_may_be_named_twice(self):
        self.worker(self.under_test, "q=echo").start()
        process = self.produce("submit", self.under_test, "--queue", "q", "--results", "/dev/null", "--ledger", "/dev/null",
                               "x")
        self.assertEqual(process.returncode, 0, process.stderr)


class ResumeTest(SubmitCase):
    def test_nothing_is_run_twice_over_kill_9_of_submit(self):
        count = 300
        self.lines(count)
        self.witnessing()
        results = self.dir / "results"
        more = ["--wait", "--results", results]
        for part in (40, 120, 200):
            resume = ["--resume"] if part > 40 else []
            run = self.producer("submit", self.under_test, *self.flags(*more, *resume), name=f"submit-{part}").start()
            wait_until(lambda p=part: len(read_lines(self.joblog)) > p or not run.running(), what=f"{part} ends")
            run.kill()
        last = self.submit(*more, "--resume", "--json")
        self.assertEqual(last.returncode, 0, last.stderr)
        self.assertEqual(Counter(read_lines(self.witness)), Counter(read_lines(self.input)))
        self.assertEqual(set(self.states().values()), {"done"})
        self.assertEqual(len(self.states()), count)
        self.assertEqual(self.under_test.status()["totals"]["accepted"], count)
        numbers = [json.loads(line)["seq"] for line in read_lines(results)]
        self.assertEqual(set(numbers), set(range(1, count + 1)))
        books = self.audit_ledger()
        self.assertEqual((books["sent"], books["done"], books["unknown"]), (count, count, 0))

    def test_what_was_on_its_way_without_an_answer_is_not_made_twice(self):
        count, ledger = 100, self.dir / "joblog.ledger"
        self.lines(count)
        text = self.input.read_text().splitlines(keepends=True)
        read_end, write_end = os.pipe()
        flags = ["--queue", "q", "--lines", "-", "--joblog", self.joblog]
        run = self.producer("submit", self.under_test, *flags)
        run.stdin = read_end
        run.start()
        os.close(read_end)
        os.write(write_end, text[0].encode())
        wait_until(lambda: ledger.exists() and "confirmed" in ledger.read_text(), what="the first confirm")
        self.under_test.send_signal(signal.SIGSTOP)
        os.write(write_end, "".join(text[1:]).encode())
        sent = lambda: sum(json.loads(line)["sent"][1] for line in read_lines(ledger) if "sent" in line)
        wait_until(lambda: sent() == count, what="everything being sent")
        time.sleep(0.2)  # for libzmq to hand it to the kernel
        run.kill()
        os.close(write_end)
        self.under_test.send_signal(signal.SIGCONT)
        wait_until(lambda: self.under_test.status()["totals"]["accepted"] == count, what="the broker taking it")
        self.assertEqual(self.states(), {1: "confirmed"})
        again = self.submit("--resume", "--json")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(json.loads(again.stdout)["known"], count - 1)
        self.assertEqual(self.states(), {number: "confirmed" for number in range(1, count + 1)})
        self.assertEqual(self.under_test.status()["totals"]["accepted"], count)
        self.assertEqual(self.audit_ledger()["confirmed"], count)

    def test_a_resume_restores_what_a_torn_ledger_has_lost(self):
        """Then the audit knows of every confirm that the joblog shows."""
        self.lines(4)
        self.assertEqual(self.submit().returncode, 0)
        ledger = self.dir / "joblog.ledger"
        whole = ledger.read_bytes()
        confirm, sent = whole.index(b'{"confirmed"'), whole.index(b'{"sent"')
        for kept in (confirm + 9, sent + 9):
            with self.subTest(kept=kept):
                ledger.write_bytes(whole[:kept])
                for _ in range(2):
                    self.assertEqual(self.submit("--resume").returncode, 0)
                    books = self.audit_ledger()
                    self.assertEqual((books["sent"], books["confirmed"], books["unknown"]), (4, 4, 0))
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 4)

    def test_what_failed_is_submitted_again_only_when_asked(self):
        self.lines(6)
        bad = "exec:sh -c 'p=$(cat); case $p in *2|*5) exit 65;; esac; echo ok'"
        worker = self.worker(self.under_test, f"q={bad}", name="bad").start()
        self.assertEqual(self.submit("--wait").returncode, 1)
        self.assertEqual([number for number, state in sorted(self.states().items()) if state == "dead"], [2, 5])
        resumed = self.submit("--wait", "--resume", "--json")
        self.assertEqual((resumed.returncode, json.loads(resumed.stdout)["sent"]), (0, 0))
        self.assertEqual(self.submit("--wait", "--resume-failed").returncode, 1)
        worker.kill()
        self.worker(self.under_test, "q=echo", name="good").start()
        mended = self.submit("--wait", "--resume-failed", "--results", "-")
        self.assertEqual(mended.returncode, 0, mended.stderr)
        self.assertEqual(sorted(json.loads(line)["seq"] for line in mended.stdout.splitlines()), [2, 5])
        self.assertEqual(set(self.states().values()), {"done"})
        self.assertEqual(len(self.rows()), 10)
        books = self.audit_ledger()
        self.assertEqual((books["done"], books["dead"]), (6, 4))

    def submit_to_nobody(self, *more, handling=signal.SIG_DFL):
        """Its stdout is a pipe that nobody reads any more."""
        read_end, write_end = os.pipe()
        os.close(read_end)
        program = [harness.BIN / "millrace-producer", "submit", "--broker", f"127.0.0.1:{self.under_test.frontend_port}"]
        with os.fdopen(write_end) as stdout:
            return subprocess.run([str(argument) for argument in (*program, *self.flags(*more))], stdin=subprocess.DEVNULL,
                                  stdout=stdout, stderr=subprocess.PIPE, timeout=harness.DEADLINE, check=False,
                                  preexec_fn=lambda: signal.signal(signal.SIGPIPE, handling))

    def test_when_nobody_reads_the_ids_the_joblog_has_what_is_known(self):
        self.lines(20_000)
        ended = self.submit_to_nobody()
        self.assertEqual((ended.returncode, ended.stderr), (-signal.SIGPIPE, b""))
        self.assertGreater(self.confirmed(), 0)
        self.assertEqual(len(self.rows()), self.confirmed())
        self.assertEqual(self.submit("--resume").returncode, 0)
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 20_000)
        self.assertEqual(len(self.rows()), 20_000)

    def test_when_nobody_reads_the_results_a_resume_brings_them(self):
        self.lines(50)
        self.witnessing(pause="0")
        for flags in ([], ["--resume"]):
            ended = self.submit_to_nobody("--wait", *flags)
            self.assertEqual((ended.returncode, ended.stderr), (-signal.SIGPIPE, b""))
            self.assertEqual(self.rows(), [])
        resumed = self.submit("--wait", "--resume")
        results = [json.loads(line) for line in resumed.stdout.splitlines()]
        self.assertEqual(sorted(line["seq"] for line in results), list(range(1, 51)))
        self.assertEqual({line.get("result") for line in results}, {"ok\n"})
        self.assertEqual(Counter(read_lines(self.witness)), Counter(read_lines(self.input)))
        self.assertEqual(self.states(), {number: "done" for number in range(1, 51)})

    def test_where_sigpipe_is_ignored_a_closed_pipe_is_an_error(self):
        self.lines(10)
        self.worker(self.under_test, "q=echo").start()
        ended = self.submit_to_nobody("--wait", handling=signal.SIG_IGN)
        self.assert_exit(ended, 74, "stdout", "Broken pipe", "has gone")
        self.assertEqual(self.rows(), [])
        self.assertEqual(len(self.submit("--wait", "--resume").stdout.splitlines()), 10)
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 10)

    def test_after_an_interrupt_the_joblog_is_whole_and_can_be_resumed(self):
        self.lines(50)
        self.witnessing(pause="0.02")
        run = self.producer("submit", self.under_test, *self.flags("--wait")).start()
        wait_until(lambda: len(read_lines(self.joblog)) > 10, what="ten ends")
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(), 130)
        self.assertIn("--resume", run.text())
        self.assertEqual(set(self.states().values()), {"done"})
        self.assertEqual(self.submit("--wait", "--resume").returncode, 0)
        self.assertEqual(Counter(read_lines(self.witness)), Counter(read_lines(self.input)))
        self.assertEqual(len(self.rows()), 50)

    def fail_three_of_eight(self):
        """Lines 1 to 3 are dead until `good` is there, and 4 to 8 run until `gate` is."""
        self.lines(8)
        self.good, self.gate = self.dir / "good", self.dir / "gate"
        handler = (f"read -r _ n; echo payload $n >> {self.witness}; if [ $n -le 3 ]; then [ -e {self.good} ] || exit 65; "
                   f"else while ! [ -e {self.gate} ]; do sleep 0.02; done; fi; echo $n")
        self.worker(self.under_test, f"q=exec:sh -c '{handler}'", pool="fixed:4").start()

    def confirmed(self):
        lines = [json.loads(line) for line in read_lines(self.dir / "joblog.ledger")]
        return sum(line["confirmed"][1] for line in lines if "confirmed" in line)

    def interrupt_when(self, condition, *more, name):
        run = self.producer("submit", self.under_test, *self.flags("--wait", *more), name=name).start()
        wait_until(condition, what=f"what {name} is for")
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(), 130, run.text())

    def check_both_rounds(self, resumed):
        """The lines in the order in which their ends were printed."""
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        self.assertEqual(Counter(read_lines(self.witness)),
                         Counter(f"payload {number}" for number in (1, 2, 3, *range(1, 9))))
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 11)
        self.assertEqual(set(self.states().values()), {"done"})
        books = self.audit_ledger()
        self.assertEqual((books["done"], books["dead"]), (8, 3))
        return [json.loads(line)["seq"] for line in resumed.stdout.splitlines()]

    def resume_two_rounds(self, *flags):
        self.fail_three_of_eight()
        self.interrupt_when(lambda: self.confirmed() == 8 and len(read_lines(self.joblog)) == 4, *flags, name="first")
        self.interrupt_when(lambda: self.confirmed() == 11, *flags, "--resume-failed", name="again")
        self.good.touch()
        self.gate.touch()
        seqs = self.check_both_rounds(self.submit("--wait", *flags, "--resume"))
        self.assertEqual(len(self.rows()), 11)
        return seqs

    def test_a_resume_follows_what_two_rounds_have_left(self):
        self.assertEqual(sorted(self.resume_two_rounds()), list(range(1, 9)))

    def test_a_resume_of_two_rounds_keeps_the_order_of_the_input(self):
        self.assertEqual(self.resume_two_rounds("--keep-order"), list(range(1, 9)))
        self.assertEqual([int(row["Seq"]) for row in self.rows()], [1, 2, 3, *range(1, 9)])

    def test_a_resume_follows_two_rounds_though_the_joblog_was_lost(self):
        self.fail_three_of_eight()
        self.gate.touch()
        self.assertEqual(self.submit("--wait").returncode, 1)
        self.good.touch()
        self.assertEqual(self.submit("--wait", "--resume-failed").returncode, 0)
        for flags in ([], ["--keep-order"]):
            self.joblog.write_text("")
            seqs = self.check_both_rounds(self.submit("--wait", "--resume", *flags))
            self.assertEqual(seqs if flags else sorted(seqs), list(range(1, 9)))
            self.assertEqual(len(self.rows()), 8)


class MissingResultsTest(SubmitCase):
    """The joblog has the end of a job, and the file of results does not have its line."""

    def setUp(self):
        super().setUp()
        self.results = self.dir / "results"
        self.waiting = ["--results", self.results]

    def found(self):
        lines = [json.loads(line) for line in read_lines(self.results)]
        return {line["seq"]: line.get("result") for line in lines}

    def test_what_the_broker_does_not_keep_any_more_is_said(self):
        self.lines(4)
        self.worker(self.under_test, "q=echo").start()
        self.assertEqual(self.submit(*self.waiting, "--jobs", "1").returncode, 0)
        wait_until(lambda: self.under_test.status()["held"]["results"]["count"] == 0, what="collection of the results")
        log = self.joblog.read_text()
        self.results.write_bytes(self.results.read_bytes()[:-5])
        for _ in range(2):
            self.assert_exit(self.submit(*self.waiting, "--resume"), 74, "results of a job that ended", "line 4",
                             str(self.results))
        self.assertEqual(sorted(self.found()), [1, 2, 3])
        self.results.unlink()
        self.assert_exit(self.submit(*self.waiting, "--resume", "--keep-order"), 74, "of 4 jobs", "line 1, 2, 3, 4")
        self.assertEqual(self.joblog.read_text(), log)
        self.assertEqual(self.under_test.status()["totals"]["accepted"], 4)

    def test_what_the_broker_keeps_is_fetched(self):
        self.lines(3)
        early = self.submit(*self.waiting, "--timeout", "1s")
        self.assertEqual(early.returncode, 75, early.stderr)
        self.worker(self.under_test, "q=echo").start()
        self.under_test.wait_jobs(done=3)
        # What a power cut may leave: the lines of the joblog, without those of the results before them.
        other = self.dir / "other"
        self.produce("submit", self.under_test, "--queue", "q", "--lines", self.input, "--joblog", other, deadline=60)
        header, *rows = read_lines(other)
        broker = rows[0].split("\t")[1].split("-")[0]
        rows = [row.replace("\tconfirmed\t-", "\tdone\t1").split("\t") for row in rows]
        for number, row in enumerate(rows, 1):
            row[1] = f"{broker}-{number}"
        log = "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"
        self.joblog.write_text(log)
        resumed = self.submit(*self.waiting, "--resume")
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        self.assertEqual(self.found(), {number: f"payload {number}" for number in (1, 2, 3)})
        self.assertEqual(self.joblog.read_text(), log)


class OrderTest(SubmitCase):
    def test_results_come_in_the_order_of_the_input(self):
        self.lines(40)
        handler = "exec:sh -c 'read -r _ n; case $n in 1|7) sleep 0.5;; esac; echo $n'"
        self.worker(self.under_test, f"q={handler}", pool="fixed:4").start()
        plain = self.produce("submit", self.under_test, "--queue", "q", "--lines", self.input, "--wait")
        seqs = [json.loads(line)["seq"] for line in plain.stdout.splitlines()]
        self.assertNotEqual(seqs, sorted(seqs))
        process = self.submit("--wait", "--keep-order")
        self.assertEqual(process.returncode, 0, process.stderr)
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        self.assertEqual([line["result"] for line in lines], [f"{number}\n" for number in range(1, 41)])
        self.assertEqual([int(row["Seq"]) for row in self.rows()], list(range(1, 41)))

    def test_results_that_waited_for_their_turn_survive_kill_9(self):
        self.lines(5)
        gate = self.dir / "gate"
        handler = f"exec:sh -c 'read -r _ n; while [ $n = 1 ] && ! [ -e {gate} ]; do sleep 0.02; done; echo $n'"
        self.worker(self.under_test, f"q={handler}", pool="fixed:2").start()
        flags = ["--wait", "--keep-order", "--results", self.dir / "results"]
        run = self.producer("submit", self.under_test, *self.flags(*flags)).start()
        self.under_test.wait_jobs(done=4)
        time.sleep(0.3)  # for the outcomes to arrive, and be held
        run.kill()
        gate.touch()
        self.assertEqual(read_lines(self.dir / "results"), [])
        resumed = self.submit(*flags, "--resume")
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        lines = [json.loads(line) for line in read_lines(self.dir / "results")]
        self.assertEqual([(line["seq"], line.get("result")) for line in lines],
                         [(number, f"{number}\n") for number in range(1, 6)])

    def test_no_more_than_jobs_are_out_at_a_time(self):
        self.lines(30)
        run = self.producer("submit", self.under_test, *self.flags("--wait", "--keep-order", "--jobs", 7)).start()
        self.under_test.wait_jobs(ready=7)
        time.sleep(0.3)
        self.assertEqual(self.under_test.jobs()["ready"], 7)
        self.worker(self.under_test, "q=echo").start()
        self.assertEqual(run.wait(), 0)
        self.assertEqual(self.under_test.jobs()["done"], 30)

    def test_a_bar_is_drawn_where_there_is_no_terminal(self):
        self.lines(100)
        self.worker(self.under_test, "q=sleep:20ms").start()
        bar = self.submit("--wait", "--bar").stderr.decode()
        self.assertRegex(bar, r"\[#* *\] +\d+%.*/s")
        self.assertIn("ETA", bar)


class HaltTest(SubmitCase):
    def run_failing(self, *flags):
        self.lines(200)
        self.worker(self.under_test, "q=exec:sh -c 'sleep 0.02; exit 65'").start()
        return self.submit("--wait", "--jobs", "10", "--json", *flags)

    def test_soon_submits_no_more_and_waits_for_the_rest(self):
        process = self.run_failing("--halt", "soon,fail=3")
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["halted"]), (1, True))
        self.assertEqual(report["dead"], report["sent"])
        self.assertTrue(3 <= report["dead"] < 30, report)
        self.assertEqual(self.under_test.jobs()["cancelled"], 0)

    def test_now_cancels_what_has_not_ended(self):
        process = self.run_failing("--halt", "now,fail=3")
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["halted"]), (1, True))
        self.assertGreater(report["dropped"], 0)
        self.assertEqual(report["dead"] + report["dropped"] + report["done"], report["sent"])
        jobs = self.under_test.jobs()
        self.assertEqual((jobs["cancelled"], jobs["ready"], jobs["leased"]), (report["dropped"], 0, 0))
        self.assertEqual(Counter(self.states().values())["cancelled"], report["dropped"])
        self.assertEqual(self.audit_ledger()["live"], 0)

    def test_a_percentage_counts_what_has_ended(self):
        process = self.run_failing("--halt", "soon,fail=50%")
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["halted"]), (1, True))
        self.assertGreaterEqual(report["dead"], 3)

    def test_success_can_be_enough(self):
        self.lines(200)
        self.worker(self.under_test, "q=sleep:10ms").start()
        process = self.submit("--wait", "--jobs", "4", "--json", "--halt", "now,success=5")
        report = json.loads(process.stdout)
        self.assertEqual(report["halted"], True)
        self.assertTrue(5 <= report["done"] < 20, report)

    def test_never_halts_by_default(self):
        process = self.run_failing()
        self.assertEqual((process.returncode, json.loads(process.stdout)["dead"]), (1, 200))


if __name__ == "__main__":
    unittest.main()
