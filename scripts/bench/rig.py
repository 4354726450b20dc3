"""Broker, workers and load on this machine, in a directory of their own; when it ends, nothing that it started is left."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

from options import PORT_IN_USE, ROOT, UNAVAILABLE, Failure, note

READY_SECONDS = 60
STOP_SECONDS = 40
TICKS = os.sysconf("SC_CLK_TCK")


def find_programs(target="--programs", *others):
    """Their directory: MILLRACE_BIN, or build/release/bin after building."""
    named = os.environ.get("MILLRACE_BIN")
    if not named:
        done = subprocess.run([ROOT / "scripts/build.sh", "release", target], check=False)
        if done.returncode:
            raise Failure(done.returncode, "the programs don't build")
    programs = Path(named) if named else ROOT / "build/release/bin"
    for name in ("millrace-broker", *others):
        if not os.access(programs / name, os.X_OK):
            raise Failure(UNAVAILABLE, f"there is no {name} in {programs}")
    return programs


def in_use(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_ports(base, offsets=(0, 1, 10)):
    """Names a port that another program has, and where there is room."""
    taken = [base + offset for offset in offsets if in_use(base + offset)]
    if taken:
        free = next(other for other in [*range(base + 100, 32000, 100), *range(10000, base, 100)]
                    if not any(in_use(other + offset) for offset in offsets))
        raise Failure(PORT_IN_USE, f"port {taken[0]} of 127.0.0.1 is in use by another program; choose other ports, such "
                      f"as --port-base {free}")


def wait_until(condition, seconds=READY_SECONDS, poll=0.05):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


def get(address, path="/v1/status", timeout=5):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=timeout) as answer:
        return answer.read()


def status(address, timeout=5):
    return json.loads(get(address, timeout=timeout))


def answers(address, path="/readyz", timeout=5):
    try:
        get(address, path, timeout)
    except (OSError, HTTPException):
        return False
    return True


class Rig:
    def __init__(self, name, options, programs):
        self.programs, self.base = programs, options.port_base
        self.processes = {}
        options.dir.mkdir(exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=options.dir))

    def __enter__(self):
        return self

    def __exit__(self, kind, failure, _):
        for process in self.processes.values():
            process.kill()
            process.wait()
        if kind is None:
            shutil.rmtree(self.directory)
        else:
            note(f"logs and data are kept in {self.directory}")

    # Processes.

    def start(self, name, program, *arguments):
        """In a session of its own, so that Ctrl-C reaches this program only."""
        with open(self.log(name), "ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(word) for word in (self.programs / program, *arguments)], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        return self.processes[name]

    def log(self, name):
        return self.directory / f"{name}.log"

    def pid(self, name):
        return self.processes[name].pid

    def running(self, name):
        return self.processes[name].poll() is None

    def stop(self, *names):
        """SIGTERM to all at once, SIGKILL to those that are left; their exit codes."""
        codes = {}
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for name in names:
            process = self.processes.pop(name)
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                note(f"{name} did not stop within {STOP_SECONDS} s after SIGTERM; sending SIGKILL")
                process.kill()
            codes[name] = process.wait()
        return codes

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop_all(self):
        """The brokers last, so that workers can confirm what they have done."""
        brokers = [name for name in self.processes if name.startswith("broker")]
        self.stop(*(name for name in self.processes if name not in brokers))
        self.stop(*brokers)

    def await_process(self, name, condition, what, poll=0.05):
        """Until the condition holds; fails when the process ends or after READY_SECONDS."""
        wait_until(lambda: condition() or not self.running(name), poll=poll)
        if not self.running(name) or not condition():
            lines = " ".join(self.log(name).read_text(errors="replace").splitlines()[-5:])
            raise Failure(UNAVAILABLE, f"{what}; its last log lines: {lines}")

    # The parts of a cluster.

    @property
    def frontend(self):
        return f"127.0.0.1:{self.base}"

    @property
    def backend(self):
        return f"127.0.0.1:{self.base + 1}"

    @property
    def http(self):
        return f"127.0.0.1:{self.base + 10}"

    def spawn_broker(self, *flags):
        self.start("broker", "millrace-broker", "serve", "--frontend", self.frontend, "--backend", self.backend, "--http",
                   self.http, "--data", self.directory / "data", *flags)

    def start_broker(self, *flags):
        self.spawn_broker("--fsync", "always", *flags)
        self.await_process("broker", lambda: answers(self.http), "the broker is not ready")

    def start_worker(self, name, *flags):
        self.start(name, "millrace-worker", "run", "--broker", self.backend, "--name", name, *flags)

    def workers(self):
        """How many are connected to the broker."""
        return sum(worker["connected"] for worker in status(self.http)["workers"])

    def await_workers(self, number=1):
        if not wait_until(lambda: self.workers() >= number):
            raise Failure(UNAVAILABLE, f"only {self.workers()} of {number} workers are registered after {READY_SECONDS} s; "
                          f"their logs are in {self.directory}")

    def fresh(self, workers, *flags, broker_flags=()):
        """A broker on an empty journal, and so many workers with these flags."""
        self.stop_all()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.start_broker(*broker_flags)
        for number in range(1, workers + 1):
            self.start_worker(f"worker-{number}", *flags)
        self.await_workers(workers)

    def load(self, *flags, brokers=()):
        """The report of a load on this broker, or others."""
        return self.report_of("millrace-producer", "load", "--broker", ",".join(brokers or [self.frontend]), *flags)

    def report_of(self, program, verb, *flags, good=(0,)):
        code, output = self.output_of(self.programs / program, verb, *flags, "--json")
        if code not in good:
            raise Failure(1, f"{program} {verb} ended with {code}; its report: {output.strip()}")
        return json.loads(output)

    def output_of(self, *command, stderr=None):
        """(exit code, stdout) of a program that ends by itself, or with this one."""
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=stderr, text=True)
        self.processes["load"] = process
        output = process.communicate()[0]
        del self.processes["load"]
        return process.returncode, output


# What a process has used.

def ticks(path):
    """Clock ticks of CPU time of a process, PID, or of a thread, PID/task/TID."""
    fields = Path(f"/proc/{path}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def field(path, name):
    """A number of a file below /proc of lines `NAME: NUMBER`."""
    [line] = [line for line in Path("/proc", path).read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def resident_kib(pid):
    return field(f"{pid}/status", "VmRSS")


class PeakThreads(threading.Thread):
    """The most threads that a process has had."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.threads, self.over = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            try:
                self.threads = max(self.threads, field(f"{self.pid}/status", "Threads"))
            except OSError:
                return

    def stop(self):
        self.over.set()
        self.join()
        return self.threads
