"""What cluster.sh runs on a host: this file goes to `python3 -` over ssh, followed by main(REQUEST). Python 3.7 and its
standard library are enough. Everything is in one directory:
  bin -> bin.SUM/ (programs), etc/ (keys, configuration), run/ (process records), log/, millrace-data/
Answers are JSON arrays on stdout, one a line: ["unit", NAME, STATE, PID], ["need", "bin"|"etc"], ["status", OBJECT],
["line", UNIT, TEXT], ["note", TEXT], ["error", TEXT]; the last is ["end"], without which an answer was cut off.
"""
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

LOCK_SECONDS = 45
POLL_SECONDS = 0.1
MANAGERS = ("systemd", "systemd-user")
NO_RESTART = "64 65 73 78"  # exit codes that a restart does not change
ACCESS_REFUSED = 78


class Failure(Exception):
    """Ends the request; the text says why."""


def answer(*words):
    print(json.dumps(words), flush=True)


def read(path):
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def write(path, text):
    """Replaces the whole file or nothing."""
    path = Path(path)
    partial = path.with_name(path.name + ".new")
    try:
        partial.write_text(text + "\n")
        partial.replace(path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise Failure(f"can't write to {path.parent.absolute()}: {error.strerror}") from None


def process_state(pid):
    """(state, start time in ticks since boot); empty without such a process."""
    stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not stat:
        return "", ""
    # A killed process keeps its ports until the last of its threads has ended.
    if stat[0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) <= 1:
        return "", ""
    return stat[0], stat[19]


def manager():
    """What supervises the programs: systemd, the user's systemd if it outlives the login, or nothing (setsid)."""
    if not os.path.isdir(os.environ.get("MILLRACE_SYSTEMD", "/run/systemd/system")) or not shutil.which("systemd-run"):
        return "setsid"
    user = os.geteuid()
    if user == 0:
        return "systemd"
    linger = run("loginctl", "show-user", str(user), "-p", "Linger", "--value").stdout.strip()
    return "systemd-user" if linger == "yes" else "setsid"


def run(*command):
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, errors="replace", check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}")


def one_line(text):
    return " ".join(text.split())


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


class Unit:
    """A program of this host. run/ holds NAME.pid ("PID START_TIME" or "0 MANAGER"), NAME.command, and NAME.stopping
    once it was sent SIGTERM; they outlive the command that wrote them, since any command may be cut off."""

    def __init__(self, cluster, name):
        self.name = name
        self.service = f"millrace-{cluster}-{name}.service"
        self.pid_file, self.command_file, self.stopping_file = (
            Path("run") / f"{name}.{kind}" for kind in ("pid", "command", "stopping"))

    def record(self):
        """(pid, start time or manager); None when nothing was recorded."""
        if not self.pid_file.exists():
            return None
        pid, start = (read(self.pid_file).split() + ["", ""])[:2]
        if not pid.isdigit() or not (start.isdigit() or start in MANAGERS):
            raise Failure(f"{self.pid_file.absolute()} does not contain the process ID of {self.name}: stop that "
                          "process if it is running, then remove the file")
        return int(pid), start

    def readable(self):
        """Answers an error, and false, when nobody can know whether it runs."""
        try:
            self.record()
        except Failure as failure:
            answer("error", str(failure))
            return False
        return True

    def find(self):
        """Its pid; 0 when it does not run, or its pid belongs to another process by now."""
        try:
            pid, start = self.record() or (0, "0")
        except Failure:
            return 0
        if start in MANAGERS:
            return int(self.systemctl(start, "show", "-p", "MainPID", "--value").stdout.strip() or 0)
        return pid if pid and process_state(pid)[1] == start else 0

    def systemctl(self, which, verb, *flags):
        return run("systemctl", *(["--user"] if which == "systemd-user" else []), verb, *flags, self.service)

    def stopping(self):
        return self.stopping_file.exists() and self.find() != 0

    def last_log(self, lines):
        return one_line("\n".join(read(f"log/{self.name}.log").splitlines()[-lines:]))

    def start(self, command):
        how = manager()
        try:
            write(self.command_file, command_record(self.name, command))
            if how == "setsid":
                self.spawn(command)
            else:
                self.hand_over(how, command)
        except Failure as failure:
            if how == "setsid":
                self.forget()  # systemd may have it still, and start it again
            raise Failure(f"can't start {self.name}: {failure}") from None

    def spawn(self, command):
        """In a session of its own. The process records itself before it becomes the program, so that no program runs
        unrecorded."""
        reader, writer = os.pipe()  # closed by exec: nothing to read means that the program runs
        if os.fork() == 0:
            try:
                os.setsid()
                write(self.pid_file, f"{os.getpid()} {process_state('self')[1]}")
                log = os.open(f"log/{self.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
                    os.dup2(source, target)
                os.execv(command[0], [os.path.abspath(command[0]), *command[1:]])
            except (OSError, Failure) as error:
                os.write(writer, str(error).encode())
            os._exit(127)
        os.close(writer)
        with os.fdopen(reader) as file:
            why = file.read()
        if why:
            raise Failure(why)

    def hand_over(self, how, command):
        """To systemd, as a transient unit."""
        write(self.pid_file, f"0 {how}")
        log = f"append:{os.getcwd()}/log/{self.name}.log"
        properties = {"WorkingDirectory": os.getcwd(), "StandardOutput": log, "StandardError": log,
                      "Restart": "on-failure", "RestartSec": 1, "RestartPreventExitStatus": NO_RESTART,
                      "KillMode": "mixed", "TimeoutStopSec": 60}
        done = run("systemd-run", *(["--user"] if how == "systemd-user" else []), "--quiet", "--collect",
                   f"--unit={self.service}", *(f"--property={name}={value}" for name, value in properties.items()),
                   "--", os.path.abspath(command[0]), *command[1:])
        if done.returncode:
            raise Failure(f"systemd-run: {one_line(done.stderr)}")

    def terminate(self):
        """SIGTERM, once only: a second one cuts off what a worker still runs."""
        pid = self.find()
        if not pid or self.stopping_file.exists():
            return
        start = self.record()[1]
        if start in MANAGERS:
            self.systemctl(start, "stop", "--no-block")
        else:
            self.kill(pid, signal.SIGTERM)
        try:
            self.stopping_file.touch()
        except OSError:  # a full disk: then a later command sends another
            pass

    def kill(self, pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def await_end(self, deadline):
        """SIGKILL after the deadline."""
        if not wait_until(lambda: not self.find(), deadline - time.monotonic()):
            answer("note", f"{self.name} did not stop in time after SIGTERM; sending SIGKILL")
            pid = self.find()
            if pid:
                start = self.record()[1]
                self.systemctl(start, "kill", "-s", "KILL") if start in MANAGERS else self.kill(pid, signal.SIGKILL)
            while self.find():
                time.sleep(POLL_SECONDS)
        self.forget()

    def forget(self):
        for path in (self.pid_file, self.command_file, self.stopping_file):
            if path.exists():
                path.unlink()


def command_record(name, command):
    """Programs, arguments and configuration. Keys don't count: a running broker reloads them."""
    configuration = Path(f"etc/{name.split('-')[0]}.toml")
    sum_ = [hashlib.sha256(configuration.read_bytes()).hexdigest()[:16]] if configuration.exists() else []
    return " ".join([read("bin/SUM"), *command, *sum_])


class Host:
    """The calls of a request."""

    def __init__(self, directory, cluster):
        self.cluster, self.locked, self.fresh, self.deadline = cluster, None, [], 0
        base = Path.home() / directory  # an absolute one stays as it is
        try:
            for name in ("run", "log"):
                (base / name).mkdir(parents=True, exist_ok=True)
            os.chdir(base)
        except OSError as error:
            raise Failure(f"can't create {base}: {error.strerror}") from None

    def unit(self, name):
        return Unit(self.cluster, name)

    def units(self, kind=""):
        """All that have run here, by kind."""
        names = [path.name[:-4] for path in Path("run").glob(f"{kind}*.pid")]
        return [self.unit(name) for name in sorted(names)]

    # Programs and keys.

    def needs(self, *sums):
        """KIND SUM…: ends here when something else is installed."""
        missing = [kind for kind, sum_ in zip(sums[::2], sums[1::2]) if read(f"{kind}/SUM") != sum_]
        for kind in missing:
            answer("need", kind)
        return not missing

    def same_keys(self, public):
        """Other keys than those of the brokers that run here would disconnect all workers."""
        if public and public == read("etc/broker.pub"):
            return
        for unit in self.units():
            if unit.find() and (public or "--curve-key" in read(unit.command_file)):
                raise Failure(f"{unit.name} runs with {'other ' if public else ''}keys; use the directory (--dir) of "
                              "its cluster, or stop that cluster first: cluster.sh -f HOSTS down")

    def install_bin(self, sum_):
        """bin.SUM has been unpacked. Programs that run keep the files that they have open."""
        write(f"bin.{sum_}/SUM", sum_)
        trial = run(f"bin.{sum_}/millrace-worker", "--version")
        if trial.returncode:
            raise Failure(f"the programs can't run on this host: {one_line(trial.stderr)} (Debian: apt-get install libzmq5 "
                          "libspdlog1.10 libfmt9 libmimalloc2.0)")
        link = Path("bin.next")
        if link.is_symlink():
            link.unlink()
        link.symlink_to(f"bin.{sum_}")
        link.replace("bin")
        for old in Path().glob("bin.*"):
            if old.name != f"bin.{sum_}":
                shutil.rmtree(old)

    def install_etc(self, sum_):
        """Each file replaces the old one atomically: a broker may be reading it."""
        Path("etc").mkdir(exist_ok=True)
        for file in Path(f"etc.{sum_}").iterdir():
            file.replace(Path("etc") / file.name)
        write("etc/SUM", sum_)
        shutil.rmtree(f"etc.{sum_}")

    # Starting and stopping.

    def lock(self):
        """One process at a time starts and stops units here: the one that an interrupted command left behind would
        take a restarted unit for the one that it waits for."""
        if self.locked:
            return
        self.locked = open("run/lock", "a")

        def taken():
            try:
                fcntl.flock(self.locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

        if not wait_until(taken, LOCK_SECONDS):
            raise Failure("an earlier command is still starting or stopping programs on this host; try again when it "
                          "has finished")

    def stop_deadline(self, seconds):
        """For all stopping units that `ensure` meets, together."""
        self.deadline = time.monotonic() + seconds

    def ensure(self, name, *command):
        """Starts it unless it runs. One that runs with other programs, arguments or configuration goes on; one that an
        earlier command stopped without waiting is waited for and restarted."""
        self.lock()
        unit = self.unit(name)
        if not unit.readable():
            return
        if unit.stopping():
            answer("note", f"{name} is stopping; it will be restarted when it has stopped")
            unit.await_end(self.deadline)
        pid = unit.find()
        if pid:
            same = read(unit.command_file) == command_record(name, command)
            answer("unit", name, "running" if same else "stale", pid)
            return
        unit.forget()
        unit.start(command)
        answer("unit", name, "started", unit.find())
        self.fresh.append(unit)

    def survive(self):
        """Fails when one that was started has ended at once, as with a flag that it does not know. It has not when two
        looks in a row find it waiting: while it still starts, it wants the CPU. 6 s at most, for all together."""
        waits = {unit: 0 for unit in self.fresh}
        for _ in range(40):
            if not waits:
                break
            time.sleep(0.15)
            for unit in list(waits):
                pid = unit.find()
                if not pid:
                    raise Failure(f"{unit.name} exited immediately; its last log lines: {unit.last_log(2)}")
                waits[unit] = waits[unit] + 1 if process_state(pid)[0] == "S" else 0
                if waits[unit] == 2:
                    del waits[unit]

    def stop(self, seconds, *names):
        """SIGTERM to all at once, which drains workers; SIGKILL to those that are left after that time."""
        if not names:
            return
        self.lock()
        self.stop_deadline(seconds)
        units = [self.unit(name) for name in names]
        for unit in units:
            unit.terminate()
        for unit in units:
            if unit.readable():
                unit.await_end(self.deadline)
                answer("unit", unit.name, "stopped", 0)

    def keep(self, kind, number, seconds):
        """Stops those of this kind above the number, KIND-1 being the first."""
        self.stop(seconds, *(unit.name for unit in self.units(f"{kind}-") if int(unit.name[len(kind) + 1:]) > number))

    def stop_kind(self, kind, seconds):
        self.stop(seconds, *(unit.name for unit in self.units(kind)))

    # Asking.

    def list(self):
        for unit in self.units():
            pid = unit.find()
            if not unit.readable():
                answer("unit", unit.name, "unknown", 0)
            elif pid:
                answer("unit", unit.name, "stopping" if unit.stopping_file.exists() else "running", pid)
            elif not unit.stopping_file.exists():  # else it has ended as intended
                answer("unit", unit.name, "dead", 0)

    def ask(self, http):
        """The status of the broker at this address, None without one; with the token of its configuration."""
        configuration = ["--config", "etc/broker.toml"] if os.path.exists("etc/broker.toml") else []
        done = run("bin/millrace-broker", "status", *configuration, "--http", http, "--json")
        if done.returncode == ACCESS_REFUSED:
            raise Failure(f"can't read the broker's status: {one_line(done.stderr)}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def ask_own(self, http):
        """The status of this unit's broker; None when another one answers."""
        status = self.ask(http)
        return status if status and status["pid"] == self.unit("broker").find() else None

    def await_unit(self, name, condition, seconds, what):
        """Until the condition holds, or its unit ends."""
        unit = self.unit(name)
        good = []

        def over():
            good[:] = [condition()]
            return good[0] or not unit.find()

        if not wait_until(over, seconds) or not good[0]:
            raise Failure(f"{what}; its last log lines: {unit.last_log(3)}")

    def ready(self, http, seconds):
        """Until this unit's broker serves."""
        def serves():
            status = self.ask_own(http)
            return status is not None and status["state"] == "serving"

        self.await_unit("broker", serves, seconds, "the broker is not ready")

    def ready_gateway(self, http, seconds):
        """Until it takes jobs."""
        self.await_unit("gateway", lambda: is_ready(http), seconds, "the gateway is not ready")

    def await_workers(self, http, seconds, *names):
        """Until workers of these names are registered with this host's broker."""
        absent = list(names)

        def registered():
            status = self.ask_own(http)
            connected = {worker["name"] for worker in status["workers"] if worker["connected"]} if status else set()
            absent[:] = [name for name in names if name not in connected]
            return not absent

        unit = self.unit("broker")
        if not wait_until(lambda: registered() or not unit.find(), seconds):
            raise Failure(f"not registered with the broker: {' '.join(absent)}")
        if absent:
            raise Failure("no broker is running on this host; start it with cluster.sh up; its last log lines: "
                          f"{unit.last_log(3)}")

    def broker(self, http):
        """What it says of itself."""
        status = self.ask(http)
        unit = self.unit("broker")
        if status and status["pid"] == unit.find():
            answer("status", status)
        else:
            other = f", but another one does at {http}" if status else ""
            answer("error", f"the broker does not answer{other}; its last log lines: {unit.last_log(3)}")

    def logs(self, lines, kind):
        for file in sorted(Path("log").glob(f"{kind}*.log")):
            for line in read(file).splitlines()[-lines:]:
                answer("line", file.stem, line)


def is_ready(http):
    from http.client import HTTPConnection, HTTPException  # here: it costs other requests 30 ms
    try:
        connection = HTTPConnection(http, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def main(request):
    os.umask(0o077)
    try:
        host = Host(request["directory"], request["cluster"])
        for name, *arguments in request["calls"]:
            if getattr(host, name)(*arguments) is False:
                break
    except Failure as failure:
        answer("error", one_line(str(failure)))
    except OSError as error:
        answer("error", f"{error.filename or 'input or output'}: {error.strerror}")
    answer("end")
