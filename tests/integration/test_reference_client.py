"""docs/PROTOCOL.md as a client: a producer and a worker that know the page and nothing else."""
import time
import unittest

import harness
import reference_client as wire
from harness import DEADLINE


def together(clients, condition, deadline=DEADLINE, what="the condition"):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {deadline:.0f} s")
        for client in clients:
            client.step(0.005)


class ReferenceClientTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.vanish()

    def producer(self, broker, **options):
        self.clients.append(wire.Producer(broker.frontend, **options))
        return self.clients[-1]

    def worker(self, broker, handler, queues=("q",), **options):
        self.clients.append(wire.Worker(broker.backend, list(queues), handler, **options))
        return self.clients[-1]

    def submitted(self, producer, payloads, queue="q", **options):
        """The jobs, once they are confirmed."""
        seqs = producer.submit(queue, payloads, **options)
        together(self.clients, lambda: not producer.unanswered, what="confirmation")
        return [producer.confirmed[seq][0] for seq in seqs]

    def outcomes(self, producer, jobs):
        together(self.clients, lambda: all(job in producer.outcomes for job in jobs), what="the outcomes")
        return [producer.outcomes[job] for job in jobs]

    def test_jobs_are_confirmed_done_and_their_results_told(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        worker = self.worker(broker, lambda queue, attempt, payload: payload[::-1])
        payloads = [b"%d" % i for i in range(300)] + [b"", b"\x00\xff\x80", b"x" * 100_000]
        jobs = self.submitted(producer, payloads, report="result")
        self.assertEqual(len(set(jobs)), len(payloads))
        self.assertEqual({entry[1:] for entry in producer.confirmed.values()}, {(False, "confirmed")})
        self.assertEqual(self.outcomes(producer, jobs), [("done", 1, payload[::-1], None) for payload in payloads])
        together(self.clients, lambda: not worker.unconfirmed, what="DONE_OK")
        self.assertEqual(sorted(worker.executed), sorted(jobs))
        self.assertEqual(producer.errors + worker.errors, [])

    def test_an_outcome_without_result_carries_none(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        self.worker(broker, lambda *_: b"unwanted")
        jobs = self.submitted(producer, [b"a", b"b"], report="outcome")
        self.assertEqual(self.outcomes(producer, jobs), [("done", 1, None, None)] * 2)

    def test_a_failure_is_tried_again_and_then_dead(self):
        broker = self.broker("--backoff", "10ms..20ms").start()
        producer = self.producer(broker)
        attempts = []

        def handler(queue, attempt, payload):
            attempts.append((payload, attempt))
            if payload == b"never" or attempt < 3:
                raise ValueError(f"no, attempt {attempt}")
            return b"at last"

        self.worker(broker, handler)
        jobs = self.submitted(producer, [b"third", b"never"], report="result", max_attempts=4)
        self.assertEqual(self.outcomes(producer, jobs),
                         [("done", 3, b"at last", None), ("dead", 4, None, "no, attempt 4")])
        self.assertEqual(sorted(attempts), [(b"never", n) for n in (1, 2, 3, 4)] + [(b"third", n) for n in (1, 2, 3)])

    def test_permanent_failures_and_crashes(self):
        broker = self.broker("--backoff", "1ms..1ms").start()
        producer = self.producer(broker)

        def handler(queue, attempt, payload):
            raise wire.Failure(payload.decode(), f"{payload.decode()} it was")

        self.worker(broker, handler)
        permanent, crash = self.outcomes(producer, self.submitted(producer, [b"permanent", b"crash"], report="outcome"))
        self.assertEqual(permanent, ("dead", 1, None, "permanent it was"))
        self.assertEqual((crash[0], crash[3]), ("dead", "crash it was"))
        self.assertGreater(crash[1], 1, "a crash is not the job's last attempt at once")

    def test_errors_that_are_no_utf8_or_too_long_still_make_valid_messages(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        errors = {b"broken": b"\xff\xfe broken", b"long": "€".encode() * 1000}

        def handler(queue, attempt, payload):
            raise wire.Failure("permanent", errors[payload])

        self.worker(broker, handler)
        # Strict UTF-8, as most msgpack libraries read by default.
        tolerant, wire.unpack = wire.unpack, wire.msgpack.unpackb
        self.addCleanup(setattr, wire, "unpack", tolerant)
        jobs = self.submitted(producer, [b"broken", b"long"], report="outcome")
        (_, _, _, broken), (_, _, _, long) = self.outcomes(producer, jobs)
        self.assertIn("broken", broken)
        self.assertTrue(long.startswith("€" * 300))
        self.assertLessEqual(len(long.encode()), 1024)

    def test_a_released_job_is_not_charged(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        worker = self.worker(broker, lambda *_: b"done")
        work, released = worker.work, []

        def give_back_first():
            if released:
                return work()
            released.append(worker.waiting.pop(0))
            worker.end(wire.RELEASE, [released[0][:2]])

        worker.work = give_back_first
        [job] = self.submitted(producer, [b"x"], report="result", max_attempts=1)
        [(state, attempts, result, _)] = self.outcomes(producer, [job])
        self.assertEqual((state, result), ("done", b"done"))
        self.assertEqual(attempts, 2, "a released attempt had begun")
        totals = broker.status()["totals"]
        self.assertEqual((totals["crashes"], totals["failures"]), (0, 0))

    def test_extend_keeps_a_lease_and_silence_about_it_ends_one(self):
        broker = self.broker("--lease", "1s").start()
        producer = self.producer(broker)
        keeper = self.worker(broker, None, queues=["kept"])
        loser = self.worker(broker, None, queues=["left"])
        keeper.work = loser.work = lambda: None  # never ends anything
        loser.extend = lambda: None
        kept = self.submitted(producer, [b"k"], queue="kept", report="outcome")
        left = self.submitted(producer, [b"l"], queue="left", report="outcome")
        together(self.clients, lambda: keeper.waiting and loser.waiting, what="both leases")
        loser.send(wire.CREDIT, 0)
        taker = self.worker(broker, lambda *_: b"", queues=["left", "kept"])
        self.assertEqual(self.outcomes(producer, left), [("done", 2, None, None)])
        self.assertEqual((taker.executed, broker.jobs()["leased"]), (left, 1))

        # The late completion of the lease that ended changes nothing, and says so.
        late = loser.waiting[0]
        loser.unconfirmed.clear()
        stale = []
        loser.drop = stale.extend
        loser.end(wire.DONE, [[late[0], late[1], None]])
        together(self.clients, lambda: not loser.unconfirmed, what="the answer to the late DONE")
        self.assertEqual([tuple(pair) for pair in stale], [(late[0], late[1])])
        keeper.end(wire.DONE, [[*keeper.waiting.pop(0)[:2], None]])
        self.assertEqual(self.outcomes(producer, kept), [("done", 1, None, None)])

    def test_both_come_back_after_the_broker_was_killed(self):
        broker = self.broker("--heartbeat", "300ms").start()
        producer = self.producer(broker)
        worker = self.worker(broker, lambda queue, attempt, payload: payload.upper(), credit=8)
        first = self.submitted(producer, [b"a%d" % i for i in range(200)], report="result")
        broker.restart()
        second = self.submitted(producer, [b"b%d" % i for i in range(200)], report="result")
        results = [result for _, _, result, _ in self.outcomes(producer, first + second)]
        self.assertEqual(results, [b"A%d" % i for i in range(200)] + [b"B%d" % i for i in range(200)])
        together(self.clients, lambda: not worker.unconfirmed, what="DONE_OK")
        self.assertEqual(sorted(worker.executed), sorted(first + second), "something ran twice or never")

    def test_a_resend_makes_no_second_job_even_after_kill(self):
        broker = self.broker().start()
        first = self.producer(broker)
        jobs = self.submitted(first, [b"one", b"two"])
        first.vanish()
        self.clients.remove(first)  # it would connect again, and stay the one that is let in
        again = self.producer(broker, producer=first.producer)
        self.assertEqual(self.submitted(again, [b"one", b"two"]), jobs)
        self.assertEqual({known for _, known, _ in again.confirmed.values()}, {True})
        again.vanish()
        self.clients.remove(again)
        broker.restart()
        after = self.producer(broker, producer=first.producer)
        # Two that are known and one that is new, in one SUBMIT.
        three = self.submitted(after, [b"one", b"two", b"three"])
        self.assertEqual(three[:2], jobs)
        self.assertEqual([after.confirmed[seq][1] for seq in (1, 2, 3)], [True, True, False])
        self.assertEqual(broker.jobs()["ready"], 3)

    def test_states_answer_what_was_asked(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        jobs = self.submitted(producer, [b"a", b"b"], report="outcome")
        self.worker(broker, lambda *_: b"", queues=["other"])
        together(self.clients, lambda: self.clients[-1].settings, what="the worker's WELCOME")
        done = self.submitted(producer, [b"c"], queue="other", report="outcome")
        self.outcomes(producer, done)
        producer.states.clear()
        producer.query(jobs + done + [done[0] + 1000])
        together(self.clients, lambda: len(producer.states) == 4, what="STATES")
        self.assertEqual([producer.states[job] for job in jobs + done + [done[0] + 1000]],
                         ["ready", "ready", "done", "unknown"])

    def test_delayed_jobs_wait_and_expired_ones_end(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        worker = self.worker(broker, lambda *_: b"")
        started = time.monotonic()
        [later] = self.submitted(producer, [b"later"], report="outcome", delay_ms=1500)
        producer.query([later])
        together(self.clients, lambda: later in producer.states, what="STATES")
        self.assertEqual(producer.states[later], "scheduled")
        [now] = self.submitted(producer, [b"now"], report="outcome")
        self.assertEqual(self.outcomes(producer, [now, later]), [("done", 1, None, None)] * 2)
        self.assertGreaterEqual(time.monotonic() - started, 1.4)
        self.assertEqual(worker.executed, [now, later])
        [short] = self.submitted(producer, [b"nobody does this"], queue="idle", report="outcome", ttl_ms=300)
        self.assertEqual(self.outcomes(producer, [short])[0][0], "expired")

    def test_higher_priorities_go_first(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        low = self.submitted(producer, [b"l"] * 3, report="outcome", priority=1)
        high = self.submitted(producer, [b"h"] * 3, report="outcome", priority=9)
        worker = self.worker(broker, lambda *_: b"", credit=1)
        self.outcomes(producer, low + high)
        self.assertEqual(sorted(worker.executed[:3]), sorted(high))

    def test_a_key_stands_for_one_job_whoever_submits_it(self):
        broker = self.broker().start()
        first, second = self.producer(broker), self.producer(broker)
        one = self.submitted(first, [b"a", b"b"], keys=[b"key-a", b"key-b"])
        two = self.submitted(second, [b"b", b"c"], keys=[b"key-b", b"key-c"])
        self.assertEqual((two[0], second.confirmed[1][1]), (one[1], True))
        self.assertNotIn(two[1], one)
        broker.restart()
        again = self.submitted(self.producer(broker), [b"c"], keys=[b"key-c"])
        self.assertEqual(again, [two[1]])
        self.assertEqual(broker.jobs()["ready"], 3)

    def test_cancelled_jobs_end_and_their_worker_is_told(self):
        broker = self.broker().start()
        producer = self.producer(broker)
        waiting, running = self.submitted(producer, [b"waits"], queue="idle", report="outcome"), []
        worker = self.worker(broker, None)
        worker.work = lambda: running.append(worker.waiting[0]) if not running else None
        leased = self.submitted(producer, [b"runs"], report="outcome")
        together(self.clients, lambda: running, what="the lease")
        producer.cancel(waiting + leased)
        self.assertEqual([state for state, *_ in self.outcomes(producer, waiting + leased)], ["cancelled"] * 2)
        together(self.clients, lambda: not worker.waiting, what="CANCELLED")
        stale = []
        worker.drop = stale.extend
        worker.end(wire.DONE, [[*running[0][:2], None]])
        together(self.clients, lambda: stale and not worker.unconfirmed, what="STALE and DONE_OK")
        self.assertEqual(broker.jobs()["cancelled"], 2)

    def test_what_the_broker_does_not_take_is_rejected_with_its_reason(self):
        broker = self.broker("--max-queued", "5", "--max-job-size", "1KiB").start()
        producer = self.producer(broker)
        cases = [("q", b"x", {"colour": "red"}, "unknown_option"), ("q", b"x", {"max_attempts": 0}, "bad_option"),
                 ("q", b"x", {"report": "loud"}, "bad_option"), ("no blanks", b"x", {}, "bad_queue"),
                 ("", b"x", {}, "bad_queue"), ("q" * 129, b"x", {}, "bad_queue"), ("q", b"x" * 1025, {}, "too_large")]
        for queue, payload, options, reason in cases:
            [seq] = producer.submit(queue, [payload], **options)
            together(self.clients, lambda: not producer.unanswered, what=f"the answer to {reason}")
            self.assertEqual(producer.rejected[seq][0], reason)
        # One that is too large among others is refused alone.
        mixed = producer.submit("q", [b"x", b"x" * 1025, b"x" * 1024])
        together(self.clients, lambda: not producer.unanswered, what="the mixed batch")
        self.assertEqual([seq in producer.confirmed for seq in mixed], [True, False, True])
        # Room for three more; the others are told to wait.
        more = producer.submit("q", [b"y"] * 5)
        together(self.clients, lambda: len(producer.later) == 2 and any(seq in producer.confirmed for seq in more),
                 what="two postponements and three confirms")
        self.assertEqual([seq in producer.confirmed for seq in more], [True] * 3 + [False] * 2)
        self.worker(broker, lambda *_: b"")
        together(self.clients, lambda: not producer.unanswered, what="room after work")
        self.assertEqual(producer.errors, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
