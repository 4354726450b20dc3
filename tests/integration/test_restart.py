"""A broker that dies or stops and comes back: nothing confirmed is lost, nothing that survived runs
again."""
import json
import signal
import time
import unittest

import harness
import reference_client as wire
from harness import read_lines, scaled, wait_until

# Appends the job's id to a witness file, in one write.
WITNESS = 'exec:echo "$MILLRACE_JOB_ID" >>{path}; {then}'


class RestartTest(harness.Case):
    def witness(self, broker, then="true", pool="fixed:4", name="worker"):
        path = self.dir / "witness"
        return self.worker(broker, "q=" + WITNESS.format(path=path, then=then), pool=pool, name=name)

    def ran(self):
        return read_lines(self.dir / "witness")

    def submit_lines(self, broker, count, *flags):
        stdin = b"".join(b"%d\n" % i for i in range(count))
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", *flags, stdin=stdin)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process

    def test_queued_jobs_survive_a_kill(self):
        broker = self.broker().start()
        count = scaled(20_000)
        self.submit_lines(broker, count)
        for _ in range(3):
            broker.restart()
            self.assertEqual(broker.jobs()["ready"], count)
        self.worker(broker, "q=echo").start()
        broker.wait_jobs(done=count, ready=0)
        broker.restart()  # what was done and not yet on disk is told again, and does not run again
        broker.wait_jobs(done=count, ready=0)
        self.assertEqual(broker.status()["totals"]["attempts"], count)

    def test_a_first_start_that_was_killed_before_its_first_commit(self):
        broker = self.broker().start()
        name = broker.status()["broker"]
        broker.kill()
        [segment] = broker.data.glob("segment-*.mrj")
        segment.write_bytes(segment.read_bytes()[:4096])  # its header
        broker.start()
        self.assertEqual(broker.status()["broker"], name)
        self.submit_lines(broker, 10)
        broker.restart()
        self.assertEqual(broker.jobs()["ready"], 10)

    def test_a_clean_stop_leaves_a_snapshot_that_is_used_once(self):
        broker = self.broker("--memory", "1MiB").start()
        self.submit_lines(broker, 20)
        count = 20 + 700  # the journal must be worth it: 512 MiB
        process = self.produce("load", broker, "--queue", "large", "--count", 700, "--rate", "max", "--size", 1_000_000,
                               "--no-wait")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(broker.terminate(), 0)
        snapshot = broker.data / "snapshot"
        whole = snapshot.read_bytes()
        broker.start()
        self.assertIn("snapshot read", broker.text())
        self.assertFalse(snapshot.exists())
        self.assertEqual(broker.jobs()["ready"], count)
        seen = self.dir / "seen"
        self.worker(broker, f"q=exec:cat >>{seen}; echo >>{seen}", pool="fixed:1").start()
        broker.wait_jobs(done=20)
        self.assertEqual(read_lines(seen), [str(i) for i in range(20)])
        broker.kill()
        snapshot.write_bytes(whole)  # of a journal that has gone on since
        broker.start()
        self.assertEqual(broker.text().count("snapshot read"), 1)
        # A completion that the kill caught before its commit is told again, and does not run again.
        broker.wait_jobs(done=20, ready=700)
        self.assertEqual(len(read_lines(seen)), 20)

    def test_damage_behind_a_snapshot_is_found_before_it_is_served(self):
        broker = self.broker("--memory", "1MiB").start()
        process = self.produce("load", broker, "--queue", "q", "--count", 700, "--rate", "max", "--size", 1_000_000,
                               "--no-wait")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(broker.terminate(), 0)
        first = sorted(broker.data.glob("segment-*.mrj"))[0]
        with open(first, "r+b") as file:
            file.seek(1_500_000)
            file.write(b"damage")
        broker.start()
        self.assertIn("snapshot read", broker.text())
        self.worker(broker, "q=echo").start()
        self.assertEqual(broker.wait(), harness.BAD_DATA)
        self.assertIn(first.name, broker.text())
        self.assertIn("repair", broker.text())

    def test_running_jobs_run_on_over_a_kill(self):
        broker = self.broker("--heartbeat", "300ms").start()
        self.witness(broker, then="sleep 3").start()
        self.submit_lines(broker, 4)
        wait_until(lambda: len(self.ran()) == 4, what="four jobs running")
        broker.restart()
        broker.wait_jobs(done=4)
        self.assertEqual(len(self.ran()), 4, "something ran twice")
        self.assertEqual(broker.status()["totals"]["attempts"], 4)

    def test_completions_finished_without_a_broker_are_delivered_once(self):
        broker = self.broker("--heartbeat", "300ms").start()
        done = self.dir / "finished"
        self.witness(broker, then=f"sleep 1; echo x >>{done}").start()
        self.submit_lines(broker, 4)
        wait_until(lambda: len(self.ran()) == 4, what="four jobs running")
        broker.kill()
        wait_until(lambda: len(read_lines(done)) == 4, what="four jobs finished without a broker")
        broker.start()
        broker.wait_jobs(done=4)
        totals = broker.status()["totals"]
        self.assertEqual((len(self.ran()), totals["attempts"], totals["done"]), (4, 4, 4))

    def test_results_outlive_restarts_until_they_are_collected(self):
        broker = self.broker().start()
        self.worker(broker, "q=echo").start()
        broker.wait_workers(1)
        payloads = [b"result %d" % i for i in range(200)]
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        producer.submit("q", payloads, report="result")
        producer.run_until(lambda: producer.settings)
        broker.wait_jobs(done=200)  # none of the OUTCOMEs was read: nothing is collected
        producer.vanish()
        for _ in range(3):
            broker.restart()
            job = json.loads(broker.get("/v1/jobs/1")[1])
            self.assertEqual((job["state"], job["result"]), ("done", "result 0"))
        outcomes = producer.wait_for(range(1, 201))
        self.assertEqual([result for _, _, result, _ in outcomes], payloads)
        wait_until(lambda: "result" not in json.loads(broker.get("/v1/jobs/1")[1]), what="results being let go")

    def test_jobs_of_a_worker_that_died_with_the_broker_run_again(self):
        broker = self.broker("--heartbeat", "200ms").start()
        worker = self.witness(broker, then="sleep 60").start()
        self.submit_lines(broker, 2)
        wait_until(lambda: len(self.ran()) == 2, what="two jobs running")
        worker.kill()
        broker.restart()
        self.witness(broker, name="successor").start()
        broker.wait_jobs(done=2)
        self.assertEqual(len(self.ran()), 4)
        # Of a worker that was lost over the restart nobody has said how many it ran at a time.
        self.assertEqual(broker.status()["totals"]["crashes"], 1)

    def test_a_clean_stop_and_start(self):
        broker = self.broker().start()
        worker = self.witness(broker).start()
        self.submit_lines(broker, 100, "--wait")
        worker.terminate()
        self.submit_lines(broker, 50)
        started = time.monotonic()
        self.assertEqual(broker.terminate(), 0)
        self.assertLess(time.monotonic() - started, 10)
        broker.start()
        self.assertEqual((broker.jobs()["done"], broker.jobs()["ready"]), (100, 50))
        worker.start()
        broker.wait_jobs(done=150)
        self.assertEqual((len(self.ran()), len(set(self.ran()))), (150, 150))

    def test_a_stop_under_load_loses_and_repeats_nothing(self):
        broker = self.broker("--heartbeat", "300ms").start()
        self.worker(broker, "q=sleep:1ms", pool="fixed:8").start()
        ledger, count = self.dir / "ledger", scaled(10_000)
        load = self.producer("load", broker, "--queue", "q", "--rate", 4000, "--count", count, "--verify",
                             "--ledger", ledger, "--json").start()
        for part in (1, 2, 3):
            wait_until(lambda: broker.status()["totals"]["done"] > count * part / 5, what="progress", interval=0.05)
            self.assertEqual(broker.terminate(), 0)
            broker.start()
        code = load.wait(3 * harness.DEADLINE)
        report, totals = load.report(), broker.status()["totals"]
        self.assertEqual(code, 1 if report["rejected"] else 0)
        self.assertEqual((report["lost"], report["duplicates"], report["balanced"]), (0, 0, True))
        # What came while the broker stopped was refused, in so many words, and is not stored.
        self.assertEqual((report["sent"], report["confirmed"] + report["rejected"]), (count, count))
        self.assertLess(report["rejected"], count / 10)
        self.assertEqual((totals["accepted"], totals["done"], totals["crashes"]),
                         (report["confirmed"], report["confirmed"], 0))
        self.audit(broker, ledger)

    def test_a_stopping_broker_says_so_to_who_submits(self):
        broker = self.broker().start()
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        producer.submit("q", [b"before"])
        producer.confirm_all()
        broker.send_signal(signal.SIGTERM)
        wait_until(lambda: "broker stopping" in broker.text(), interval=0)
        [seq] = producer.submit("q", [b"after"])
        wait_until(lambda: producer.step(0.01) or producer.later or producer.socket is None, interval=0)
        self.assertIn(seq, producer.later, "no REJECT, and the connection is gone")
        self.assertEqual(broker.wait(), 0)

    def test_the_second_signal_ends_the_broker_too(self):
        broker = self.broker().start()
        broker.send_signal(signal.SIGINT)
        self.assertIn(broker.wait(), (0, 130))

    def test_a_resend_is_known_for_ten_thousand_and_over_three_kills(self):
        broker = self.broker().start()
        producer, count = bytes(range(16)), scaled(10_000)
        jobs = None
        for _ in range(4):
            client = wire.Producer(broker.frontend, producer=producer)
            seqs = client.submit("q", [b"%d" % i for i in range(count)])
            # The floor of this producer stays at 1: it says that it has heard of none.
            send_batch = client.send
            client.send = lambda kind, *fields: send_batch(
                kind, *((1, *fields[1:]) if kind == wire.SUBMIT else fields))
            client.confirm_all(harness.DEADLINE)
            got = [client.confirmed[seq][0] for seq in seqs]
            self.assertEqual({client.confirmed[seq][1] for seq in seqs}, {jobs is not None})
            jobs = jobs or got
            self.assertEqual(got, jobs)
            client.vanish()
            broker.restart()
        self.assertEqual(broker.status()["totals"]["accepted"], count)

    def test_results_are_fetched_after_a_restart(self):
        broker = self.broker("--heartbeat", "300ms").start()
        self.worker(broker, "q=exec:sleep 1; cat").start()
        results = self.dir / "results"
        submit = self.producer("submit", broker, "--queue", "q", "--wait", "--results", results, "the payload").start()
        wait_until(lambda: broker.jobs()["leased"] == 1, what="the job running")
        broker.restart()
        self.assertEqual(submit.wait(), 0)
        [line] = [json.loads(line) for line in read_lines(results)]
        self.assertEqual((line["state"], line["result"], line["attempts"]), ("done", "the payload", 1))


class DrainTest(harness.Case):
    def test_a_draining_worker_loses_and_repeats_nothing(self):
        broker = self.broker().start()
        path, count = self.dir / "witness", scaled(600)
        workers = [self.worker(broker, "q=" + WITNESS.format(path=path, then="sleep 0.01"), name=f"worker-{i}").start()
                   for i in range(3)]
        broker.wait_workers(3)
        ledger = self.dir / "ledger"
        load = self.producer("load", broker, "--queue", "q", "--rate", 300, "--count", count, "--verify",
                             "--ledger", ledger).start()
        for i, worker in enumerate(workers[:2], start=1):
            wait_until(lambda: broker.status()["totals"]["done"] > count * i / 4, what="progress")
            self.assertEqual(worker.terminate(), 0)
        self.assertEqual(load.wait(3 * harness.DEADLINE), 0)
        ran = read_lines(path)
        self.assertEqual((len(ran), len(set(ran))), (count, count))
        totals = broker.status()["totals"]
        self.assertEqual((totals["crashes"], totals["failures"]), (0, 0))
        self.audit(broker, ledger)

    def test_running_jobs_are_finished_waiting_ones_given_back(self):
        broker = self.broker().start()
        first = self.worker(broker, "q=sleep:1s", pool="fixed:2", flags=("--prefetch", "20"), name="first").start()
        stdin = b"x\n" * 10
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "--lines", "-", stdin=stdin).returncode, 0)
        wait_until(lambda: broker.jobs()["leased"] == 10, what="ten leases")
        started = time.monotonic()
        self.assertEqual(first.terminate(), 0)
        self.assertLess(time.monotonic() - started, 5)
        jobs = broker.jobs()
        self.assertGreaterEqual(jobs["done"], 2)
        self.assertEqual((jobs["leased"], jobs["ready"] + jobs["done"]), (0, 10))
        self.assertEqual(broker.status()["totals"]["crashes"], 0)

    def test_what_does_not_end_in_time_is_given_back(self):
        broker = self.broker().start()
        slow = self.worker(broker, "q=sleep:60s", flags=("--drain-timeout", "500ms"), name="slow").start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "x").returncode, 0)
        wait_until(lambda: broker.jobs()["leased"] == 1, what="the lease")
        slow.terminate(10)
        wait_until(lambda: broker.jobs()["ready"] == 1, what="the job being back")
        self.assertEqual(broker.status()["totals"]["crashes"], 0)

    def test_the_second_signal_stops_at_once(self):
        broker = self.broker("--heartbeat", "300ms").start()
        marker = self.dir / "started"
        worker = self.worker(broker, f"q=exec:echo x >>{marker}; exec sleep 60").start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "x").returncode, 0)
        wait_until(lambda: read_lines(marker), what="the job running")
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: "drain" in worker.text().lower(), what="the drain being logged")
        self.assertTrue(worker.running())
        started = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        self.assertNotEqual(worker.wait(10), 0)
        self.assertLess(time.monotonic() - started, 5)
        wait_until(lambda: broker.jobs()["ready"] == 1, what="the job being back")


if __name__ == "__main__":
    unittest.main(verbosity=2)
