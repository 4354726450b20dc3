"""Runs host.sh on many hosts, over ssh or, on this machine, without: at most eight at a time, each
after a short random wait, because sshd refuses connections that come all at once (MaxStartups). A host
that can't be reached is an Answer with an error, never an exception.
"""
import concurrent.futures
import json
import random
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

HOST_SH = Path(__file__).resolve().parent.parent / "host.sh"
AT_ONCE = 8
JITTER_SECONDS = 0.05
# A host that vanishes while it is asked is given up after 15 s of silence.
SSH_OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5",
               "-o", "ServerAliveCountMax=3", "-T"]
SSH_FAILED = 255  # its own exit code; any other is the command's
TAR_ENDED = "Exiting with failure status"  # what tar says after the cause
HINTS = {
    "Host key verification failed": "its key is not the one in known_hosts, or not there yet: connect once by hand",
    "Permission denied (": "it does not take your ssh key: ssh-copy-id, or an agent",
    "timed out": "it is off, or a firewall drops ssh",
    "Connection refused": "no sshd listens there",
    "No route to host": "it is off, or in another network",
    "Could not resolve": "its name is unknown",
}


def cause(words, reached):
    """The last line that says why; of ssh itself, also what it means."""
    lines = [line.strip() for line in words.splitlines() if line.strip() and TAR_ENDED not in line]
    last = lines[-1] if lines else ""
    hint = "" if reached else next((hint for sign, hint in HINTS.items() if sign in words), "")
    return last + (f" ({hint})" if hint else "")


@dataclass
class Answer:
    """What a host said. `reached` is false when ssh failed, as when the line was cut."""
    host: object
    reached: bool = True
    errors: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    units: dict = field(default_factory=dict)  # name -> (state, pid)
    needs: list = field(default_factory=list)
    status: dict = None
    lines: list = field(default_factory=list)

    @property
    def good(self):
        return self.reached and not self.errors

    def read(self, text):
        complete = False
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "unit":
                name, state, pid = rest.split()
                if state != "running" or name not in self.units:  # how it came to run says more
                    self.units[name] = (state, int(pid))
            elif word == "need":
                self.needs.append(rest)
            elif word == "error":
                self.errors.append(rest)
            elif word == "note":
                self.notes.append(rest)
            elif word == "status":
                self.status = json.loads(rest) if rest.startswith("{") else None
            elif word == "line":
                self.lines.append(tuple((rest + " ").split(" ", 1)))
            elif word == "end":
                complete = True
        return complete


def calls(*lines):
    """Shell lines; each is a list of words."""
    return "".join(" ".join(shlex.quote(str(word)) for word in line) + "\n" for line in lines)


class Remote:
    def __init__(self, directory, cluster, ssh="ssh", dry_run=False, progress=None):
        self.directory, self.cluster = directory.rstrip("/"), cluster
        self.ssh = shlex.split(ssh)
        self.dry_run, self.progress = dry_run, progress
        self.shown = []  # with dry_run: what would be run, in order
        self.functions = HOST_SH.read_text()

    def base(self, host):
        """Its own for each host, also where they share a home directory."""
        return f"{self.directory}/{self.cluster}/{host.key}"

    def command(self, host, words):
        """ssh to the host, or what runs here instead."""
        if host.local:
            return ["sh", "-c", words]
        port = ["-p", str(host.port)] if host.port != 22 else []
        login = f"{host.user}@{host.name}" if host.user else host.name
        return [*self.ssh, *SSH_OPTIONS, *port, "--", login, words]

    def run(self, host, *lines, deadline=120.0):
        """Calls functions of host.sh there, in its directory."""
        script = calls(["enter", self.base(host), self.cluster], *lines, ["finish"])
        command = self.command(host, "exec sh -s")
        if self.dry_run:
            self.show(host, command, script)
            return Answer(host)
        return self.execute(host, command, (self.functions + script).encode(), deadline)

    def send(self, host, directory, make_archive, deadline=300.0):
        """Unpacks a tar archive, the bytes that the function returns, into a directory of the host's."""
        target = shlex.quote(f"{self.base(host)}/{directory}")
        words = f"umask 077; mkdir -p {target} && tar -xpf - -C {target} && echo end"
        command = self.command(host, f"cd; {words}")
        if self.dry_run:
            self.show(host, command, "", f"{directory}.tar")
            return Answer(host)
        return self.execute(host, command, make_archive(), deadline)

    def show(self, host, command, script, stdin=""):
        self.shown.append({"host": host.text, "command": command, "stdin": stdin, "calls": script.splitlines()})

    def execute(self, host, command, stdin, deadline):
        answer = Answer(host)
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=deadline, check=False)
        except subprocess.TimeoutExpired:
            answer.reached = False
            answer.errors.append(f"no answer within {deadline:.0f} s")
            return answer
        except OSError as error:
            answer.reached = False
            answer.errors.append(f"can't run {command[0]}: {error.strerror}")
            return answer
        if not answer.read(done.stdout.decode(errors="replace")):
            answer.reached = host.local or done.returncode != SSH_FAILED
            words = done.stderr.decode(errors="replace")
            answer.errors.append(cause(words, answer.reached) or f"{command[0]} ended with {done.returncode}")
        return answer

    def each(self, hosts, work, what):
        """work(host) for all, eight at a time; the Answers in the order of the hosts."""
        hosts = list(hosts)
        if self.dry_run:
            return [work(host) for host in hosts]

        def one(host):
            time.sleep(random.uniform(0, JITTER_SECONDS) * min(len(hosts), AT_ONCE))
            answer = work(host)
            if self.progress:
                self.progress.step(what)
            return answer

        if self.progress:
            self.progress.begin(what, len(hosts))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as executor:
            answers = list(executor.map(one, hosts))
        if self.progress:
            self.progress.end()
        return answers
