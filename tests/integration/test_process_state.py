"""What a program inherits from whoever starts it, and what happens to it from there: signals, masks,
limits, a closed terminal, a log that nobody reads."""
import fcntl
import os
import re
import resource
import signal
import subprocess
import unittest

import harness
from harness import BIN, Process, free_ports, wait_until


def hostile_state():
    """What a careless parent leaves behind."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.umask(0o777)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))


def full_pipe():
    """(read end, write end) of a pipe that takes nothing more."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        while True:
            os.write(ends[1], b"x")
    except BlockingIOError:
        pass
    fcntl.fcntl(ends[1], fcntl.F_SETFL, 0)
    return ends


class ProcessStateTest(harness.Case):
    def started_with(self, process, **options):
        process.child = subprocess.Popen(process.arguments, stdin=subprocess.DEVNULL, **options)
        return process

    def test_inherited_state_changes_nothing(self):
        broker = self.broker()
        self.started_with(broker, preexec_fn=hostile_state)
        wait_until(broker.ready, what="the broker being ready")
        worker = self.worker(broker, "q=exec:ulimit -S -n; grep -E 'Sig(Blk|Ign)' /proc/self/status")
        self.started_with(worker, preexec_fn=hostile_state)
        done = self.produce("submit", broker, "--queue", "q", "--wait", "x")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = done.stdout.decode()
        self.assertIn("256", text)
        self.assertIn("SigBlk:\\t0000000000000000", text)
        ignored = int(re.search(r"SigIgn:\\t([0-9a-f]+)", text).group(1), 16)
        self.assertEqual(ignored & 0x7fffffff, 0, text)  # the C library has two more to itself
        self.assertEqual(worker.terminate(), 0)
        self.assertEqual(broker.terminate(), 0)

    def test_a_closed_terminal_ends_nothing(self):
        broker = self.broker().start()
        worker = self.worker(broker, "q=echo").start()
        [port] = free_ports(1)
        gateway = Process(self, "gateway", [BIN / "millrace-producer", "gateway", "--broker",
                                            f"127.0.0.1:{broker.frontend_port}", "--http", f"127.0.0.1:{port}"])
        gateway.start()
        broker.wait_workers(1)
        wait_until(lambda: "gateway listening" in gateway.text(), what="the gateway listening")
        for process in (broker, worker, gateway):
            process.send_signal(signal.SIGHUP)
            wait_until(lambda p=process: "SIGHUP ignored" in p.text(), what=f"{process.name} naming SIGHUP")
        done = self.produce("submit", broker, "--queue", "q", "--wait", "x")
        self.assertEqual(done.returncode, 0, done.stderr)
        for process in (gateway, worker, broker):
            self.assertEqual(process.terminate(), 0, process.name)

    def test_stray_signals_end_no_program(self):
        broker = self.broker().start()
        worker = self.worker(broker, "q=echo").start()
        broker.wait_workers(1)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO,
                       signal.SIGPWR, signal.SIGRTMIN):
            for process in (broker, worker):
                process.send_signal(number)
        done = self.produce("submit", broker, "--queue", "q", "--wait", "x")
        self.assertEqual(done.returncode, 0, done.stderr)
        for process in (worker, broker):
            self.assertEqual(process.terminate(), 0, process.name)

    @unittest.skipIf(harness.SANITIZED, "a sanitizer takes terabytes of address space")
    def test_too_little_address_space_is_named(self):
        """Where libzmq would abort, or a start end in the middle."""
        broker = self.broker().start()
        short = self.broker(name="short")
        for command, mebibytes in ((short.command(), 300), (self.worker(broker, "q=echo").arguments, 60),
                                   ([BIN / "millrace-producer", "submit", "--broker",
                                     f"127.0.0.1:{broker.frontend_port}", "--queue", "q", "x"], 60)):
            limit = mebibytes << 20
            ended = subprocess.run([str(word) for word in command], capture_output=True, check=False,
                                   timeout=harness.DEADLINE, stdin=subprocess.DEVNULL,
                                   preexec_fn=lambda n=limit: resource.setrlimit(resource.RLIMIT_AS, (n, n)))
            self.assertEqual(ended.returncode, 78, ended.stderr)
            self.assertRegex(ended.stderr.decode(), rf"may use {mebibytes} MiB of address space, and needs \d+ MiB")
        self.assertFalse(short.data.exists())

    def test_a_log_that_nobody_reads_stops_nothing(self):
        reader, writer = full_pipe()
        self.addCleanup(os.close, reader)
        broker = self.broker()
        self.started_with(broker, stderr=writer)
        wait_until(broker.ready, what="the broker being ready")
        worker = self.worker(broker, "q=exec:echo to the log >&2; cat")
        self.started_with(worker, stderr=writer)
        os.close(writer)
        done = self.produce("submit", broker, "--queue", "q", "--wait", "x")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(broker.status()["log_lines_dropped"], 0)
        self.assertEqual(worker.terminate(), 0)
        self.assertEqual(broker.terminate(), 0)


if __name__ == "__main__":
    unittest.main()
