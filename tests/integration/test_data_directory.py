"""A data directory in the wrong hands: what a broker refuses, and that it stays in charge of itself."""
import os
import re
import signal
import socket
import stat
import subprocess
import unittest
from pathlib import Path

import harness
from harness import BIN, CANT_CREATE


def with_a_pending_sigterm():
    """SIGTERM, sent before the program began, which it sees as soon as it looks."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)


class DataDirectoryTest(harness.Case):
    def serve_once(self, broker, preexec=None):
        """Runs the broker to its end."""
        return subprocess.run([str(argument) for argument in broker.command()], capture_output=True,
                              timeout=harness.DEADLINE, preexec_fn=preexec, check=False)

    def test_only_the_owner_can_read_it(self):
        broker = self.broker().start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "secret").returncode, 0)
        self.assertEqual(stat.S_IMODE(broker.data.stat().st_mode), 0o700)
        for file in broker.data.iterdir():
            self.assertEqual(stat.S_IMODE(file.stat().st_mode) & 0o077, 0, file.name)

    def test_a_fifo_in_place_of_a_segment_or_the_snapshot_is_not_waited_for(self):
        broker = self.broker().start()
        broker.terminate()
        os.mkfifo(broker.data / "snapshot")
        broker.start()
        broker.terminate()
        os.mkfifo(broker.data / "segment-00000000000000ff.mrj")
        ended = self.serve_once(broker)
        self.assertEqual(ended.returncode, harness.IO, ended.stderr)
        self.assertIn(b"not a regular file", ended.stderr)

    def bind(self, path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))

    def test_what_is_no_file_is_named_by_serve_and_verify(self):
        broker = self.broker().start()
        broker.terminate()
        odd = broker.data / "segment-00000000000000ff.mrj"
        kinds = {"a symbolic link": lambda: odd.symlink_to("/dev/zero"), "a directory": odd.mkdir,
                 "a FIFO": lambda: os.mkfifo(odd), "a socket": lambda: self.bind(odd),
                 "a device": lambda: os.mknod(odd, stat.S_IFCHR | 0o600, os.makedev(1, 5))}
        for kind, make in kinds.items():
            with self.subTest(kind=kind):
                make()
                verified = self.run_program("millrace-broker", "journal", "verify", broker.data)
                for ended in (self.serve_once(broker), verified):
                    self.assertEqual(ended.returncode, harness.IO, ended.stderr)
                    self.assertIn(f"{odd} can't be opened: it is {kind}, not a regular file", ended.stderr.decode())
                odd.rmdir() if kind == "a directory" else odd.unlink()

    def test_a_sparse_segment_takes_no_memory(self):
        broker = self.broker().start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "secret").returncode, 0)
        broker.kill()
        [segment] = broker.data.glob("segment-*.mrj")
        os.truncate(segment, (1 << 30) - 4096)
        verify = subprocess.Popen([BIN / "millrace-broker", "journal", "verify", broker.data], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(verify.pid, 0)
        verify.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(verify.returncode, 0)
        self.assertLess(used.ru_maxrss, 400 << 10, "KiB of verify")
        broker.start()
        most = re.search(r"VmHWM:\s+(\d+) kB", (Path("/proc") / str(broker.pid) / "status").read_text())
        self.assertLess(int(most.group(1)), 400 << 10, "KiB of serve")
        self.assertEqual(broker.jobs()["ready"], 1)

    def test_a_lock_that_leads_elsewhere(self):
        broker = self.broker()
        target = self.dir / "precious"
        target.write_text("content")
        broker.data.mkdir(mode=0o700)
        (broker.data / "LOCK").symlink_to(target)
        ended = self.serve_once(broker)
        self.assertEqual(ended.returncode, CANT_CREATE, ended.stderr)
        self.assertIn(b"symbolic link", ended.stderr)
        self.assertEqual(target.read_text(), "content")

    def test_one_that_its_group_can_write_to_is_used_with_a_warning(self):
        broker = self.broker()
        broker.data.mkdir(mode=0o700)
        broker.start()
        self.assertNotIn("chmod g-w", broker.text())
        broker.terminate()
        broker.data.chmod(0o770)
        broker.start()
        self.assertIn(f"chmod g-w {broker.data}", broker.text())

    def test_checkpoints_that_would_crowd_a_segment_are_refused(self):
        for flag, value, remedy in (("--history", "5000000", rb"lower --history to \d{6}\b"),
                                    ("--key-memory", "1GiB", b"--key-memory 1073741824 is too large")):
            ended = self.serve_once(self.broker(flag, value))
            self.assertEqual(ended.returncode, harness.USAGE, ended.stderr)
            self.assertRegex(ended.stderr, remedy)

    def test_a_disk_reserve_that_completions_do_not_fit_into_is_raised(self):
        for name, flags, said in (("small", ["--disk-reserve", "1MiB"], "raised to what a checkpoint"),
                                  ("none", ["--disk-reserve", "0"], "--disk-reserve 0: on a full disk nothing"),
                                  ("enough", ["--disk-reserve", "40MiB"], ""), ("default", [], "")):
            with self.subTest(name):
                broker = self.broker(*flags, name=name).start()
                self.assertIn(said, broker.text())
                warnings = [line for line in broker.text().splitlines() if " warning " in line and "40MiB" in line]
                self.assertEqual(bool(warnings), bool(said), broker.text())
                broker.kill()

    def test_sigterm_ends_a_replay_and_changes_nothing(self):
        broker = self.broker().start()
        loaded = self.produce("load", broker, "--queue", "q", "--rate", "1500", "--count", "1500", "--no-wait")
        self.assertEqual(loaded.returncode, 0, loaded.stderr)
        broker.kill()
        before = {file.name: file.read_bytes() for file in broker.data.glob("*.mrj")}
        ended = self.serve_once(broker, with_a_pending_sigterm)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn(b"stopped while the journal was replayed", ended.stderr)
        self.assertEqual({file.name: file.read_bytes() for file in broker.data.glob("*.mrj")}, before)
        broker.start()
        broker.wait_jobs(ready=1500)


if __name__ == "__main__":
    unittest.main()
