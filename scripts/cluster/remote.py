"""Runs host.py on many hosts, over ssh or, on this machine, without. ClusterShell runs at most eight commands at a time
(sshd refuses more at once: MaxStartups), ends those that are late and gathers their output. A host that can't be
reached is an Answer with an error, never an exception.
"""
import json
import logging
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from ClusterShell.Event import EventHandler
from ClusterShell.Task import task_self

HOST_PY = Path(__file__).resolve().parent / "host.py"
PYTHON = "/usr/bin/python3 -I -"
FANOUT = 8
# A host that vanishes while it is asked is given up after 15 s of silence.
SSH_OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5",
               "-o", "ServerAliveCountMax=3", "-T"]
SSH_FAILED = 255  # its own exit code; any other is the command's
TAR_ENDED = "Exiting with failure status"  # what tar says after the cause
HINTS = {
    "Host key verification failed": "its key is not in known_hosts, or has changed: connect once with ssh",
    "Permission denied (": "it does not accept your ssh key: use ssh-copy-id, or an agent",
    "timed out": "it is down, or a firewall blocks ssh",
    "Connection refused": "no sshd is listening",
    "No route to host": "it is down, or unreachable from this network",
    "Could not resolve": "its name can't be resolved",
    "python3: not found": "hosts need Python 3: apt-get install python3",
}

logging.getLogger("ClusterShell").setLevel(logging.CRITICAL)  # "broken pipe" of an ssh that failed: its answer says it


def cause(text):
    """The last line that says why, and what it means."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and TAR_ENDED not in line]
    hint = next((f" ({hint})" for sign, hint in HINTS.items() if sign in text), "")
    return lines[-1] + hint if lines else ""


@dataclass
class Answer:
    """What a host answered. `reached` is false when ssh failed, as when the connection was cut."""
    host: object
    reached: bool = True
    errors: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    units: dict = field(default_factory=dict)  # name -> (state, pid)
    needs: list = field(default_factory=list)
    status: dict = None
    lines: list = field(default_factory=list)  # (unit, text) of logs

    @property
    def good(self):
        return self.reached and not self.errors

    def read(self, text):
        """False when the answer was cut off."""
        for line in text.splitlines():
            try:
                kind, *words = json.loads(line)
            except ValueError:  # what a login shell prints
                continue
            if kind == "unit":
                name, state, pid = words
                if state != "running" or name not in self.units:  # "started" or "stale" says more
                    self.units[name] = (state, pid)
            elif kind == "need":
                self.needs += words
            elif kind == "error":
                self.errors += words
            elif kind == "note":
                self.notes += words
            elif kind == "status":
                self.status = words[0]
            elif kind == "line":
                self.lines.append(tuple(words))
            elif kind == "end":
                return True
        return False


@dataclass
class Step:
    """A command for a host. `stdin` is bytes, or the path of a file; `calls` are what --dry-run shows of it."""
    host: object
    command: list
    stdin: object
    calls: list = field(default_factory=list)

    def line(self):
        source = f" <{shlex.quote(str(self.stdin))}" if isinstance(self.stdin, Path) else ""
        return f"exec {shlex.join(self.command)}{source}"


class Running(EventHandler):
    """The input of a step, and its end."""

    def __init__(self, step, ended):
        super().__init__()
        self.step, self.ended, self.late = step, ended, False

    def ev_start(self, worker):
        if isinstance(self.step.stdin, bytes):
            worker.write(self.step.stdin)
        worker.set_write_eof()

    def ev_close(self, worker, timedout):
        self.late = timedout
        self.ended()


def answer_of(step, worker, deadline):
    answer = Answer(step.host)
    if worker.eh.late:
        answer.reached = False
        answer.errors.append(f"no answer within {deadline:.0f} s")
    elif not answer.read((worker.read() or b"").decode(errors="replace")):
        code = worker.retcode()
        answer.reached = step.host.local or code != SSH_FAILED
        answer.errors.append(cause((worker.error() or b"").decode(errors="replace"))
                             or f"{step.command[0]} exited with {code}")
    return answer


class Remote:
    def __init__(self, directory, cluster, ssh="ssh", dry_run=False, progress=None):
        self.directory, self.cluster = directory.rstrip("/"), cluster
        self.ssh = shlex.split(ssh)
        self.dry_run, self.progress = dry_run, progress
        self.shown = []  # with dry_run: what would be run, in order
        self.program = HOST_PY.read_text(encoding="utf-8")

    def base(self, host):
        """Its own for each host, also where they share a home directory."""
        return f"{self.directory}/{host.key}"

    def command(self, host, words):
        """ssh to the host, or what runs here instead."""
        if host.local:
            return ["sh", "-c", words]
        port = ["-p", str(host.port)] if host.port != 22 else []
        login = f"{host.user}@{host.name}" if host.user else host.name
        return [*self.ssh, *SSH_OPTIONS, *port, "--", login, words]

    def run(self, requests, what="", deadline=120.0):
        """(host, calls) each: calls methods of host.py there, in its directory. The Answers in the same order."""
        def step(host, calls):
            request = json.dumps({"directory": self.base(host), "cluster": self.cluster, "calls": calls})
            return Step(host, self.command(host, f"exec {PYTHON}"), f"{self.program}\nmain(json.loads({request!r}))\n"
                        .encode(), calls)

        return self.execute([step(host, calls) for host, calls in requests], what, deadline)

    def send(self, archives, what="", deadline=300.0):
        """(host, directory, archive) each: unpacks a tar archive, bytes or a file, into a directory of the host's."""
        def step(host, directory, archive):
            target = shlex.quote(f"{self.base(host)}/{directory}")
            words = f"cd; umask 077; mkdir -p {target} && tar -xpf - -C {target} && echo '[\"end\"]'"
            return Step(host, self.command(host, words), archive)

        return self.execute([step(*archive) for archive in archives], what, deadline, "archive")

    def execute(self, steps, what, deadline, noun="host"):
        if self.dry_run:
            self.shown += [{"host": step.host.text, "command": step.command, "calls": step.calls} for step in steps]
            return [Answer(step.host) for step in steps]
        task = task_self()
        task.set_info("fanout", FANOUT)
        if what:
            self.progress.begin(what, len(steps), noun)
        workers = [task.shell(step.line(), handler=Running(step, lambda: what and self.progress.step(what)),
                              timeout=deadline, stderr=True) for step in steps]
        task.resume()
        if what:
            self.progress.end()
        return [answer_of(step, worker, deadline) for step, worker in zip(steps, workers)]
