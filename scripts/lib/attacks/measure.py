"""Runs attacks against a broker of its own beside an honest load, and reports what they cost: see
scripts/attack.sh."""
import argparse
import csv
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from attacks import ATTACKS

MIB = 1 << 20
READY_SECONDS = 15
RECOVERY_SECONDS = 5
SETTLE_SECONDS = 1  # between the control and the attack


class Ports:
    def __init__(self, base):
        self.frontend, self.backend, self.http = base, base + 1, base + 2


def start(log, *arguments, open_files=None):
    def limit():
        if open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

    with open(log, "ab") as output:
        return subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.DEVNULL,
                                stdout=output, stderr=output, preexec_fn=limit)


def stop(process):
    """SIGTERM, then SIGKILL; the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def answers(port, path="/readyz"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def rss(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


class Cluster:
    """A broker and an echo worker of one attack."""

    def __init__(self, programs, directory, ports, flags, open_files):
        self.ports, self.log = ports, directory / "log"
        self.broker = start(self.log, programs / "millrace-broker", "serve", "--data", directory / "data",
                            "--frontend", f"127.0.0.1:{ports.frontend}", "--backend", f"127.0.0.1:{ports.backend}",
                            "--http", f"127.0.0.1:{ports.http}", *flags, open_files=open_files)
        end = time.monotonic() + READY_SECONDS
        while not answers(ports.http):
            if self.broker.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"attack.sh: the broker does not become ready:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.worker = start(self.log, programs / "millrace-worker", "run", "--broker", f"127.0.0.1:{ports.backend}",
                            "--queue", "honest=echo", "--queue", "echo=echo")

    def end(self):
        stop(self.worker)
        return stop(self.broker)


def p99s(rows, first, last):
    """Of the seconds between two moments."""
    return [row["p99"] for row in rows if first < row["time"] <= last and row["p99"] is not None]


def median(found):
    return statistics.median(found) if found else None


def read_rows(path):
    rows = []
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            p99 = row["confirm_p99_ms"]
            rows.append({"time": float(row["time_s"]), "p99": float(p99) if p99 else None,
                         "rejected": int(row["rejected"])})
    return rows


def recovery(rows, end, bound):
    """Seconds from the attack's end until a row is within the bound, and stays so for the next one."""
    after = [row for row in rows if row["time"] > end]
    for row, following in zip(after, after[1:]):
        if all(each["p99"] is not None and each["p99"] <= bound for each in (row, following)):
            return max(0.0, row["time"] - 1 - end)
    return None


class Round:
    """Calm, then the attack against a second broker (the control), then against the broker that serves
    the honest load, then the recovery. The load runs all the time; the second broker only until the
    control is over."""

    def __init__(self, name, options, directory, ports):
        self.name, self.options, self.directory, self.ports = name, options, directory, ports
        seconds = options.seconds
        self.control = (options.calm, options.calm + seconds)
        self.attack = (self.control[1] + SETTLE_SECONDS, self.control[1] + SETTLE_SECONDS + seconds)
        self.end = self.attack[1] + RECOVERY_SECONDS + 2
        self.healthy, self.largest = True, 0

    def run(self):
        cluster, second = self.cluster("first", self.ports[0]), self.cluster("second", self.ports[1])
        load = start(self.directory / "load.log", self.options.programs / "millrace-producer", "load",
                     "--broker", f"127.0.0.1:{self.ports[0].frontend}", "--queue", "honest",
                     "--rate", self.options.rate, "--duration", f"{self.end}s", "--timeout", "15s", "--quiet",
                     "--json", "--csv", self.directory / "rows.csv")
        self.begun = time.monotonic()
        self.run_attack(self.ports[1], *self.control)
        second.end()
        self.before = rss(cluster.broker.pid)
        self.run_attack(self.ports[0], *self.attack, cluster)
        while load.poll() is None and time.monotonic() < self.begun + self.end + 30:
            self.watch(cluster)
        stop(load)
        self.alive = cluster.broker.poll() is None
        self.after = rss(cluster.broker.pid)
        self.code = cluster.end()
        self.rows = read_rows(self.directory / "rows.csv")
        return self

    def cluster(self, name, ports):
        directory = self.directory / name
        directory.mkdir()
        return Cluster(self.options.programs, directory, ports, self.options.flag, self.options.open_files)

    def run_attack(self, ports, first, last, watched=None):
        time.sleep(max(0.0, self.begun + first - time.monotonic()))
        attacker = multiprocessing.Process(target=ATTACKS[self.name], args=(ports, self.begun + last), daemon=True)
        attacker.start()
        next_question = 0.0
        while time.monotonic() < self.begun + last:
            if watched and time.monotonic() >= next_question:
                self.healthy = answers(ports.http, "/healthz") and self.healthy
                next_question = time.monotonic() + 2
            self.watch(watched)
        attacker.kill()
        attacker.join()

    def watch(self, cluster):
        if cluster:
            self.largest = max(self.largest, rss(cluster.broker.pid))
        time.sleep(0.1)

    def calm_p99s(self):
        return p99s(self.rows, 0, self.control[0])

    def control_p99s(self):
        return p99s(self.rows, self.control[0] + 1, self.control[1])

    def attack_p99s(self):
        return p99s(self.rows, self.attack[0] + 1, self.attack[1])


def measure(name, options, ports):
    rounds = []
    for _ in range(options.rounds):
        directory = Path(tempfile.mkdtemp(prefix="millrace-attack-"))
        try:
            rounds.append(Round(name, options, directory, ports).run())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    calm, control, attack = (median([p99 for each in rounds for p99 in of(each)])
                             for of in (Round.calm_p99s, Round.control_p99s, Round.attack_p99s))
    bound = max(2 * (calm or 0), 2 * (control or 0), options.least)
    recoveries = [recovery(each.rows, each.attack[1], bound) for each in rounds]
    recovered = None if None in recoveries else max(recoveries)
    result = {"attack": name, "alive": all(each.alive for each in rounds), "exit": max(each.code for each in rounds),
              "healthz": all(each.healthy for each in rounds), "calm_p99_ms": calm, "control_p99_ms": control,
              "attacked_p99_ms": attack, "bound_ms": bound, "recovery_s": recovered,
              "rejected": sum(row["rejected"] for each in rounds for row in each.rows),
              "rss_mib": {"before": rounds[-1].before // MIB, "largest": max(each.largest for each in rounds) // MIB,
                          "after": rounds[-1].after // MIB}}
    result["within_twice_calm"] = attack is not None and attack <= 2 * (calm or 0)
    result["passed"] = bool(result["alive"] and all(each.code == 0 for each in rounds) and result["healthz"]
                            and attack is not None and attack <= bound
                            and result["rss_mib"]["largest"] <= options.rss
                            and recovered is not None and recovered <= RECOVERY_SECONDS)
    return result


def parse(arguments):
    parser = argparse.ArgumentParser(prog="attack.sh", add_help=False)
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--calm", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--least", type=float, default=5.0)
    parser.add_argument("--rss", type=int, default=1024)
    parser.add_argument("--open-files", type=int, default=1024)
    parser.add_argument("--port-base", type=int, default=26370)
    parser.add_argument("--flag", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        print(f"attack.sh: '{unknown[0]}' is not an attack; 'attack.sh --list' names them", file=sys.stderr)
        raise SystemExit(64)
    return options


def number(value, width):
    return f"{value:>{width}.1f}" if value is not None else " " * (width - 1) + "-"


def main():
    if sys.argv[1:] == ["--list"]:
        for name, attack in ATTACKS.items():
            print(f"{name:20} {' '.join(attack.__doc__.split())}")
        return 0
    options = parse(sys.argv[1:])
    results = []
    if not options.json:
        print(f"{'attack':20} {'calm':>8} {'control':>8} {'attack':>8} {'recovery':>9} {'RSS MiB':>8}  result")
    for number_of, name in enumerate(options.attacks or ATTACKS):
        base = options.port_base + 6 * number_of
        print(f"attack.sh: {name}: {' '.join(ATTACKS[name].__doc__.split())}", file=sys.stderr)
        result = measure(name, options, (Ports(base), Ports(base + 3)))
        results.append(result)
        if not options.json:
            print(f"{name:20} {number(result['calm_p99_ms'], 8)} {number(result['control_p99_ms'], 8)} "
                  f"{number(result['attacked_p99_ms'], 8)} {number(result['recovery_s'], 9)} "
                  f"{result['rss_mib']['largest']:>8}  {'passed' if result['passed'] else 'FAILED'}"
                  f"{'' if result['within_twice_calm'] else ' (above twice calm)'}", flush=True)
    if options.json:
        print(json.dumps({"seconds": options.seconds, "rounds": options.rounds, "rate": options.rate, "attacks": results}))
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
