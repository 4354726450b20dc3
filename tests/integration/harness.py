"""What the integration tests share: the real programs as objects, waiting on conditions with
deadlines, and an end at which nothing that was started still runs.
"""
import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("MILLRACE_BIN", ROOT / "build/release/bin"))
SANITIZED = os.environ.get("MILLRACE_SANITIZED", "") not in ("", "0")
DEADLINE = 90.0 if SANITIZED else 30.0

# What a program says of itself when it is wrong, whatever its exit code.
ACCUSATION = re.compile(r".*(Sanitizer|runtime error:|check failed|this is a bug|terminate called).*", re.IGNORECASE)

USAGE, BAD_DATA, UNREACHABLE, CANT_CREATE, IO, TIMED_OUT = 64, 65, 69, 73, 74, 75


def scaled(count):
    """A load that a sanitizer's tenfold slowness still carries in time."""
    return count // 10 if SANITIZED else count


def wait_until(condition, deadline=DEADLINE, what="the condition", interval=0.02):
    """The condition's first true value; AssertionError after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {deadline:.0f} s")
        time.sleep(interval)


def free_ports(count):
    """Ports that nothing listens on. Below the range of outgoing connections: a client that keeps
    trying such a port while its broker is down could connect to itself and so take it."""
    ports, held = [], []
    try:
        while len(ports) < count:
            port = random.SystemRandom().randrange(20000, 32000)
            probe = socket.socket()
            held.append(probe)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in ports:
                ports.append(port)
    finally:
        for probe in held:
            probe.close()
    return ports


class Process:
    """A program that runs until it is stopped; its output goes to a log."""

    def __init__(self, case, name, arguments, stdin=None, env=None):
        self.name = name
        self.log = case.dir / f"{name}.log"
        self.arguments = [str(argument) for argument in arguments]
        self.stdin, self.env = stdin, env
        self.user = None  # this process's
        self.child = None
        case.processes.append(self)

    def start(self):
        assert self.child is None or self.child.poll() is not None, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            log.write(f"--- {' '.join(self.arguments)}\n".encode())
            log.flush()
            self.child = subprocess.Popen(self.arguments, stdin=self.stdin or subprocess.DEVNULL, stdout=log,
                                          stderr=log, env={**os.environ, **(self.env or {})}, user=self.user)
        return self

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child is not None and self.child.poll() is None

    def send_signal(self, number):
        self.child.send_signal(number)

    def cpu_seconds(self):
        with open(f"/proc/{self.child.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        """SIGKILL, and gone when this returns."""
        if self.running():
            self.child.kill()
        if self.child:
            self.child.wait()

    def terminate(self, deadline=DEADLINE):
        """SIGTERM; the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline=DEADLINE):
        try:
            return self.child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {deadline:.0f} s") from None

    def rss(self):
        """Resident bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no VmRSS")

    def report(self):
        """The JSON object that it has printed."""
        [line] = [line for line in self.text().splitlines() if line.startswith("{")]
        return json.loads(line)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Broker(Process):
    def __init__(self, case, *flags, data=None, name="broker"):
        self.frontend_port, self.backend_port, self.http_port = free_ports(3)
        self.data = Path(data or case.dir / f"{name}-data")
        self.flags = flags
        super().__init__(case, name, self.command())

    def command(self, *more):
        return [BIN / "millrace-broker", "serve", "--frontend", self.frontend, "--backend", self.backend,
                "--http", self.http, "--data", self.data, *self.flags, *more]

    frontend = property(lambda self: f"tcp://127.0.0.1:{self.frontend_port}")
    backend = property(lambda self: f"tcp://127.0.0.1:{self.backend_port}")
    http = property(lambda self: f"127.0.0.1:{self.http_port}")

    def ready(self):
        if not self.running():
            raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.text()[-2000:]}")
        return self.get("/readyz")[0] == 200

    def start(self, wait=True):
        super().start()
        if wait:
            wait_until(self.ready, what=f"{self.name} being ready")
        return self

    def restart(self):
        self.kill()
        return self.start()

    def get(self, path):
        """(status, body); (0, b"") while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (OSError, urllib.error.URLError):
            return 0, b""

    def status(self):
        code, body = self.get("/v1/status")
        assert code == 200, f"{self.name} answers {code} to /v1/status"
        return json.loads(body)

    def jobs(self):
        return self.status()["jobs"]

    def wait_workers(self, count):
        wait_until(lambda: sum(worker["connected"] for worker in self.status()["workers"]) == count,
                   what=f"{count} workers being registered")

    def wait_jobs(self, deadline=DEADLINE, **counts):
        """wait_jobs(done=3, ready=0)"""
        wait_until(lambda: all(self.jobs()[state] == count for state, count in counts.items()), deadline,
                   what=f"{counts}")


class Worker(Process):
    def __init__(self, case, broker, *queues, pool="fixed:2", flags=(), name="worker"):
        arguments = [BIN / "millrace-worker", "run", "--broker", f"127.0.0.1:{broker.backend_port}", "--pool", pool]
        for queue in queues:
            arguments += ["--queue", queue]
        super().__init__(case, name, [*arguments, *flags])


class Case(unittest.TestCase):
    """A directory of its own; at the end everything that was started is killed, by pid, and after a
    failure the logs' tails are shown."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="millrace-test-"))
        self.processes = []
        self.addCleanup(self.stop_all)

    def stop_all(self):
        for process in self.processes:
            process.kill()
        for log in self.dir.glob("*.log"):
            found = ACCUSATION.search(log.read_text(errors="replace"))
            self.assertIsNone(found, f"{log.name} says: {found and found.group(0)}")

    def broker(self, *flags, **options):
        return Broker(self, *flags, **options)

    def worker(self, broker, *queues, **options):
        return Worker(self, broker, *queues, **options)

    def producer(self, command, broker, *flags, name="producer"):
        """A producer in the background."""
        arguments = [BIN / "millrace-producer", command, "--broker", f"127.0.0.1:{broker.frontend_port}"]
        return Process(self, name, [*arguments, *flags])

    def run_program(self, *arguments, stdin=None, deadline=DEADLINE):
        """Runs to the end; stdout and stderr are bytes."""
        program, *rest = (str(argument) for argument in arguments)
        process = subprocess.run([str(BIN / program), *rest], capture_output=True, timeout=deadline,
                                 input=stdin if stdin is not None else b"", check=False)
        with open(self.dir / "programs.log", "ab") as log:
            log.write(f"--- {program} {' '.join(rest)} → {process.returncode}\n".encode() + process.stderr)
        return process

    def produce(self, command, broker, *flags, stdin=None, deadline=DEADLINE):
        return self.run_program("millrace-producer", command, "--broker", f"127.0.0.1:{broker.frontend_port}", *flags,
                                stdin=stdin, deadline=deadline)

    def audit(self, broker, *ledgers):
        """The totals reconcile."""
        flags = [flag for ledger in ledgers for flag in ("--ledger", ledger)]
        process = self.produce("audit", broker, *flags, "--json")
        self.assertEqual(process.returncode, 0, process.stdout.decode() + process.stderr.decode())
        return json.loads(process.stdout)

    def assert_exit(self, process, code, *words):
        """The exit code, and a message on stderr that holds each of the words."""
        message = process.stderr.decode(errors="replace")
        self.assertEqual(process.returncode, code, message)
        for word in words:
            self.assertIn(word, message)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        self.dir = None
        super().run(result)
        if self.dir is None:
            return
        if result and len(result.failures) + len(result.errors) > before:
            self.show_logs()
        shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        print(f"\n=== {self.id()} failed; the ends of its logs:", file=sys.stderr)
        for log in sorted(self.dir.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-40:]
            print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def read_lines(path):
    """The lines of a file that may not be there yet."""
    path = Path(path)
    return path.read_text().split("\n")[:-1] if path.exists() else []


def decode_result(line):
    """The bytes of a result line of submit."""
    return base64.b64decode(line["result_base64"]) if "result_base64" in line else line["result"].encode()
