"""A disk that fails, a limit that is reached, a directory that goes away: the broker never confirms what
is not on disk, says what is wrong, and stops where the rule says stop."""
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
import unittest

import harness
import reference_client as wire
from harness import CANT_CREATE, read_lines, wait_until

IO_ERROR, CONFIG = 74, 78
EIO, ENOMEM, EROFS, EDQUOT = 5, 12, 30, 122
MIB = 1 << 20
SHIM = harness.BIN.parent / "lib" / "faulty_disk.so"


class FaultCase(harness.Case):
    """A broker with some confirmed jobs, on a disk that fails as told."""

    def setUp(self):
        super().setUp()
        self.faults = self.dir / "faults"

    def fault(self, *lines):
        """Takes effect at once, whole."""
        written = self.dir / "faults.new"
        written.write_text("\n".join(lines))
        written.rename(self.faults)

    def start(self, *flags, **options):
        broker = self.broker(*flags, **options)
        broker.env = {"LD_PRELOAD": str(SHIM), "MILLRACE_FAULTS": str(self.faults),
                      "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        broker.start()
        self.producer = wire.Producer(broker.frontend)
        self.addCleanup(self.producer.vanish)
        self.producer.submit("q", [b"before %d" % i for i in range(20)], report="outcome")
        self.producer.confirm_all()
        return broker

    def submit_until(self, condition, what):
        """Keeps submitting; what is confirmed by then is as the wire says."""
        def step():
            if len(self.producer.unanswered) < 200:
                self.producer.submit("q", [b"x" * 1000] * 20)
            self.producer.step(0.005)
            return condition()
        wait_until(step, interval=0, what=what)

    def restart_has_all(self, broker):
        """Every job that was ever confirmed is there after a restart on a sound disk."""
        self.fault()
        broker.start()
        confirmed = {job for job, *_ in self.producer.confirmed.values()}
        asker = wire.Producer(broker.frontend)
        self.addCleanup(asker.vanish)
        asker.run_until(lambda: asker.settings)
        for job in confirmed:
            asker.query([job])
        asker.run_until(lambda: confirmed <= set(asker.states))
        self.assertEqual({asker.states[job] for job in confirmed}, {"ready"})
        self.producer.confirm_all()  # what was unknown is sent again, and taken


class FailingDiskTest(FaultCase):
    def check_stops(self, *faults, words):
        broker = self.start()
        self.fault(*faults)
        confirmed = dict(self.producer.confirmed)
        self.submit_until(lambda: not broker.running(), "the broker's end")
        self.assertEqual(broker.wait(), IO_ERROR)
        for word in words:
            self.assertIn(word, broker.text())
        self.assertEqual(self.producer.confirmed, confirmed, "confirmed on a disk that failed")
        self.restart_has_all(broker)

    def test_a_write_that_fails(self):
        self.check_stops(f"write {EIO}", words=["segment-", "can't be written", "Input/output error", "start the broker"])

    def test_a_write_that_fails_half_way(self):
        self.check_stops(f"late-write {EIO}", words=["can't be written", "Input/output error"])

    def test_a_sync_that_fails(self):
        self.check_stops(f"sync {EIO}", words=["segment-", "can't be synced", "Input/output error", "start the broker"])

    def test_a_file_system_that_turns_read_only(self):
        self.check_stops(f"write {EROFS}", words=["can't be written", "Read-only file system"])

    def test_a_quota_is_waited_for(self):
        broker = self.start()
        self.fault(f"write {EDQUOT}")
        self.submit_until(lambda: broker.status()["journal"]["stalled"], "the stall")
        confirmed = len(self.producer.confirmed)
        late = self.producer.submit("q", [b"late"])
        self.submit_until(lambda: late[0] in self.producer.later, "the rejection")
        self.assertEqual(len(self.producer.confirmed), confirmed)
        refused = self.produce("submit", broker, "--queue", "q", "--timeout", "1s", "x")
        self.assert_exit(refused, harness.TIMED_OUT)
        self.fault()
        self.producer.confirm_all()  # without a restart
        self.assertTrue(broker.running())
        broker.kill()
        self.restart_has_all(broker)


class SlowDiskTest(FaultCase):
    """Reads take their time; nothing but the jobs whose payloads are on the disk waits for them."""

    SLOW = 1.0  # seconds a read

    def test_reads_that_take_long_stop_no_heartbeat(self):
        broker = self.start("--memory", "4KiB", "--heartbeat", "500ms")
        for _ in range(5):
            self.producer.submit("q", [os.urandom(10_000) for _ in range(60)])
            self.producer.confirm_all()
        jobs = broker.jobs()["ready"]
        self.fault(f"slow-read {self.SLOW * 1000:.0f}")
        worker = self.worker(broker, "q=echo").start()
        answers, begun = [], time.monotonic()
        while broker.jobs()["done"] < jobs:
            self.assertLess(time.monotonic() - begun, harness.DEADLINE, broker.jobs())
            asked = time.monotonic()
            broker.status()
            answers.append(time.monotonic() - asked)
            self.producer.step(0.01)
        self.assertGreater(time.monotonic() - begun, 2 * self.SLOW, "the disk was not slow")
        self.assertLess(max(answers), self.SLOW, "the loop waited for the disk")
        totals = broker.status()["totals"]
        self.assertEqual((totals["attempts"], totals["returned"], totals["crashes"]), (jobs, 0, 0))
        self.assertNotIn("lost the broker", worker.text())


class ReadBackTest(FaultCase):
    """Payloads that are on the disk only: they come back as they were, or not at all."""

    def queue_on_disk(self):
        """Ten batches of a known job, each behind 100 kB that keep them apart."""
        broker = self.start("--memory", "4KiB")
        for i in range(10):
            self.producer.submit("q", [b"job %d " % i + b"x" * 100_000])
            self.producer.confirm_all()
        self.seen = self.dir / "seen"
        return broker

    def drain_until_end(self, broker):
        worker = self.worker(broker, f"q=exec:head -c 6 >>{self.seen}; echo >>{self.seen}", pool="fixed:1")
        worker.start()
        code = broker.wait()
        return code, read_lines(self.seen)

    def test_damage_while_the_broker_runs_is_not_served(self):
        broker = self.queue_on_disk()
        [segment] = broker.data.glob("segment-*.mrj")
        at = segment.read_bytes().index(b"job 7 ")
        with open(segment, "r+b") as file:
            file.seek(at + 50_000)
            file.write(b"!")
        code, seen = self.drain_until_end(broker)
        self.assertEqual(code, harness.BAD_DATA)
        for word in (segment.name, "at byte", "damaged", "journal repair"):
            self.assertIn(word, broker.text())
        self.assertNotIn("job 7 ", seen)
        refused = self.run_program(*broker.command())
        self.assert_exit(refused, harness.BAD_DATA, segment.name, "journal repair")

    def test_a_shortage_of_memory_is_waited_for(self):
        broker = self.queue_on_disk()
        self.fault(f"read {ENOMEM}")
        self.worker(broker, "q=echo").start()
        wait_until(lambda: "can't be read back" in broker.text(), what="the log line")
        self.assertGreaterEqual(broker.jobs()["ready"], 10)
        self.fault()
        broker.wait_jobs(done=30)
        self.assertEqual(broker.status()["totals"]["attempts"], 30)

    def test_a_disk_that_can_not_be_read_ends_the_broker(self):
        broker = self.queue_on_disk()
        self.fault(f"read {EIO}")
        code, seen = self.drain_until_end(broker)
        self.assertEqual(code, IO_ERROR)
        for word in ("segment-", "can't be read at byte", "Input/output error", "start the broker"):
            self.assertIn(word, broker.text())
        self.assertEqual([line for line in seen if line.startswith("job ")], [])
        self.fault()
        broker.start()
        broker.wait_jobs(done=30)
        self.assertEqual(sorted(set(read_lines(self.seen)) - set(seen)), [f"job {i} " for i in range(10)])


class FileSizeTest(FaultCase):
    def test_a_limit_that_is_too_small_is_refused_at_the_start(self):
        broker = self.broker()
        process = subprocess.run([str(part) for part in broker.command()], capture_output=True, check=False,
                                 timeout=harness.DEADLINE, preexec_fn=lambda: resource.setrlimit(
                                     resource.RLIMIT_FSIZE, (MIB, MIB)))
        self.assert_exit(process, CONFIG, str(MIB), "ulimit -f")

    def test_a_limit_that_is_reached_is_waited_for(self):
        broker = self.start()
        _, hard = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (16384, hard))
        self.submit_until(lambda: broker.status()["journal"]["stalled"], "the stall")
        late = self.producer.submit("q", [b"late"])
        self.submit_until(lambda: late[0] in self.producer.later, "the rejection")
        self.assertTrue(broker.running())
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (hard, hard))
        self.producer.confirm_all()
        broker.kill()
        self.restart_has_all(broker)


class DirectoryTest(FaultCase):
    def test_one_that_is_removed_under_the_broker(self):
        broker = self.start()
        kept = self.dir / "kept"
        shutil.copytree(broker.data, kept)
        shutil.rmtree(broker.data)
        confirmed = dict(self.producer.confirmed)
        self.submit_until(lambda: not broker.running(), "the broker's end")
        self.assertEqual(broker.wait(), IO_ERROR)
        self.assertIn("removed", broker.text())
        self.assertEqual(self.producer.confirmed, confirmed, "confirmed into a file without a name")
        kept.rename(broker.data)
        self.restart_has_all(broker)

    def test_the_second_broker_names_the_first(self):
        broker = self.start()
        second = self.broker(data=broker.data, name="second")
        process = self.run_program(*second.command())
        self.assert_exit(process, CANT_CREATE, str(broker.pid), socket.gethostname(), str(broker.data))
        self.producer.submit("q", [b"still served"])
        self.producer.confirm_all()

    def test_a_read_only_file_system_at_the_start(self):
        disk = self.mount("tmpfs", "-o", "size=16m,mode=700", "tmpfs")
        data = disk / "data"
        data.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        process = self.run_program(*self.broker(data=data).command())
        self.assert_exit(process, CANT_CREATE, str(data), "not writable")

    def test_an_ext4_that_gives_up(self):
        """What errors=remount-ro does, with a real file system: writes fail from one moment on."""
        image = self.dir / "image"
        with open(image, "wb") as file:
            file.truncate(256 * MIB)
        if subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False).returncode != 0:
            self.skipTest("no ext4 can be made here")
        disk = self.mount("ext4", "-o", "loop,errors=remount-ro", image)
        broker = self.start("--disk-reserve", "1MiB", data=disk / "data")
        aborted = subprocess.run(["mount", "-o", "remount,abort", disk], capture_output=True, check=False)
        if aborted.returncode != 0:
            self.skipTest(f"this kernel does not abort a file system: {aborted.stderr.decode().strip()}")
        confirmed = dict(self.producer.confirmed)
        self.submit_until(lambda: not broker.running(), "the broker's end")
        self.assertEqual(broker.wait(), IO_ERROR)
        self.assertIn("segment-", broker.text())
        self.assertEqual(self.producer.confirmed, confirmed)
        subprocess.run(["umount", disk], check=True)
        subprocess.run(["fsck.ext4", "-p", "-f", image], capture_output=True, check=False)
        subprocess.run(["mount", "-t", "ext4", "-o", "loop", image, disk], check=True)
        self.restart_has_all(broker)

    def mount(self, kind, *arguments):
        disk = self.dir / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", kind, *map(str, arguments), disk], capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no {kind} can be mounted here: {mounted.stderr.decode().strip()}")
        return disk

    def tearDown(self):
        for process in self.processes:
            process.kill()
        if (self.dir / "disk").is_mount():
            subprocess.run(["umount", self.dir / "disk"], capture_output=True, check=False)


class LossWindowTest(harness.Case):
    def test_what_a_power_cut_would_take_is_told(self):
        for fsync, durability, most in (("always", "confirmed", 0), ("interval:2s", "buffered", 2000),
                                        ("never", "buffered", None)):
            with self.subTest(fsync=fsync):
                broker = self.broker("--fsync", fsync, name=f"broker-{durability}-{most}").start()
                producer = wire.Producer(broker.frontend)
                producer.submit("q", [b"x"] * 10)
                producer.confirm_all()
                self.assertEqual({answer for _, _, answer in producer.confirmed.values()}, {durability})
                journal = broker.status()["journal"]
                self.assertEqual(journal["loss_window_max_ms"], most)
                if fsync == "always":
                    self.assertEqual(journal["loss_window_ms"], 0)
                else:
                    wait_until(lambda: broker.status()["journal"]["loss_window_ms"] > 100, what="a window")
                    said = self.run_program("millrace-broker", "status", "--http", broker.http)
                    self.assertIn(b"power cut", said.stdout)
                if fsync == "interval:2s":
                    wait_until(lambda: broker.status()["journal"]["loss_window_ms"] == 0, what="the sync")
                producer.vanish()
                broker.send_signal(signal.SIGTERM)
                self.assertEqual(broker.wait(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
