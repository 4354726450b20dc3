"""A disk that fills up: new jobs are rejected, completions are taken, nothing confirmed is lost, and
space that comes back is used without a restart."""
import os
import subprocess
import time
import unittest

import harness
import reference_client as wire
from harness import wait_until

MIB = 1 << 20


def jobs_left(broker, queue):
    return sum(q["ready"] + q["leased"] for q in broker.status()["queues"] if q["name"] == queue)


class DiskFullTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.disk = self.dir / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=700", "tmpfs", self.disk],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")

    def tearDown(self):
        for process in self.processes:
            process.kill()
        subprocess.run(["umount", self.disk], capture_output=True, check=False)

    def free(self):
        stat = os.statvfs(self.disk)
        return stat.f_bavail * stat.f_frsize

    def ballast(self, leave):
        """Fills the disk up to so many bytes."""
        with open(self.disk / "ballast", "wb") as file:
            while (rest := self.free() - leave) > 0:
                file.write(b"b" * min(rest, MIB))
                file.flush()

    def test_full_and_free_again(self):
        broker = self.broker("--disk-reserve", "40MiB", data=self.disk / "data").start()
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        first = producer.submit("q", [b"x" * 1000] * 200, report="outcome")
        producer.confirm_all()
        jobs = [producer.confirmed[seq][0] for seq in first]

        self.ballast(leave=20 * MIB)
        late = producer.submit("q", [b"late"])
        producer.run_until(lambda: late[0] in producer.later or producer.confirmed.get(late[0]))
        if late[0] in producer.confirmed:  # the reserve is noticed at the next look
            late = producer.submit("q", [b"later"])
            producer.run_until(lambda: late[0] in producer.later)

        # Completions of what was accepted are taken meanwhile.
        worker = wire.Worker(broker.backend, ["q"], lambda *_: b"")
        self.addCleanup(worker.vanish)
        wait_until(lambda: worker.step(0.005) or producer.step(0.005) or not producer.awaited, interval=0,
                   what="the completions")
        self.assertEqual({producer.outcomes[job][0] for job in jobs}, {"done"})
        self.assertIn(late[0], producer.unanswered, "a job was taken below the reserve")
        self.assertEqual(broker.get("/healthz")[0], 200)

        (self.disk / "ballast").unlink()
        producer.confirm_all()  # it tries again by itself, as it was told
        wait_until(lambda: worker.step(0.005) or producer.step(0.005) or not worker.unconfirmed, interval=0)
        accepted = broker.status()["totals"]["accepted"]
        broker.restart()
        wait_until(lambda: worker.step(0.005) or broker.jobs()["done"] == accepted, interval=0, what="all done")

    def test_the_end_of_the_jobs_is_the_end_of_it(self):
        """What the broker itself keeps for later, spare segments, does not count against it."""
        broker = self.broker("--disk-reserve", "100MiB", "--memory", "32MiB", data=self.disk / "data").start()
        self.drain_after_the_disk_was_full(broker)

    def test_one_old_job_does_not_keep_the_disk_full(self):
        """It lies in the oldest segment, before all that is done meanwhile."""
        broker = self.broker("--disk-reserve", "100MiB", "--memory", "32MiB", data=self.disk / "data").start()
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        producer.submit("untouched", [b"old"])
        producer.confirm_all()
        self.drain_after_the_disk_was_full(broker)
        broker.restart()
        self.assertEqual(broker.jobs()["ready"], 1)
        payloads = []
        worker = wire.Worker(broker.backend, ["untouched"], lambda queue, attempt, payload: payloads.append(payload) or b"")
        self.addCleanup(worker.vanish)
        wait_until(lambda: worker.step(0.005) or not jobs_left(broker, "untouched"), interval=0, what="the old job")
        self.assertEqual(payloads, [b"old"])

    def drain_after_the_disk_was_full(self, broker):
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        payload = b"x" * 500_000

        def rejected():
            if len(producer.in_flight) < 4:
                producer.submit("q", [payload])
            producer.step(0.005)
            return producer.later

        wait_until(rejected, interval=0, what="the reserve being reached")
        worker = wire.Worker(broker.backend, ["q"], lambda *_: b"")
        self.addCleanup(worker.vanish)
        wait_until(lambda: worker.step(0.005) or producer.step(0.005) or
                   (not producer.unanswered and not jobs_left(broker, "q")), interval=0,
                   what="every job being taken and done")
        self.assertEqual(broker.get("/readyz")[0], 200)

    def test_not_a_byte_left(self):
        broker = self.broker("--disk-reserve", "1MiB", data=self.disk / "data").start()
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        confirmed = producer.submit("q", [b"x"] * 100)
        producer.confirm_all()
        self.ballast(leave=0)
        # What is submitted now is confirmed, rejected or unanswered; but never confirmed and lost.
        payload = b"y" * 1000
        producer.submit("q", [payload] * 5000)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            producer.step()
        self.assertTrue(broker.running(), "the broker ended")
        (self.disk / "ballast").unlink()
        producer.confirm_all()
        self.assertEqual(len(producer.confirmed), 5000 + len(confirmed))
        broker.restart()
        self.assertEqual(broker.jobs()["ready"], 5100)

    def test_people_are_not_told_what_is_not_on_disk(self):
        broker = self.broker("--disk-reserve", "0", data=self.disk / "data").start()
        producer = wire.Producer(broker.frontend)
        self.addCleanup(producer.vanish)
        producer.submit("q", [b"x"])
        producer.confirm_all()
        self.ballast(leave=0)
        payload = b"y" * 500_000

        def stalled():
            producer.submit("q", [payload])
            producer.step()
            return broker.status()["journal"]["stalled"]

        wait_until(stalled, interval=0, what="the journal having no space")
        pause = ["millrace-broker", "queue", "pause", "q", "--http", broker.http]
        self.assert_exit(self.run_program(*pause), harness.TIMED_OUT, "may have been done")
        self.assert_exit(self.run_program(*pause), harness.TIMED_OUT, "nothing was done")  # at once
        self.assertEqual(broker.get("/healthz")[0], 200)
        (self.disk / "ballast").unlink()
        wait_until(lambda: not broker.status()["journal"]["stalled"], what="the journal going on")
        wait_until(lambda: self.run_program(*pause).returncode == 0, what="the queue being paused")
        broker.restart()
        self.assertTrue(broker.status()["queues"][0]["settings"]["paused"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
