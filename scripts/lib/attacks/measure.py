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


def percentile(rows, first, last):
    """The median of the rows' p99 between two seconds."""
    found = [row["p99"] for row in rows if first < row["time"] <= last and row["p99"] is not None]
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
    """Seconds from the attack's end until a row is as good as calm, and stays so for the next one."""
    after = [row for row in rows if row["time"] > end]
    for row, following in zip(after, after[1:]):
        if all(each["p99"] is not None and each["p99"] <= bound for each in (row, following)):
            return max(0.0, row["time"] - 1 - end)
    return None


def measure(name, options, ports, directory):
    cluster = Cluster(options.programs, directory, ports, options.flag, options.open_files)
    calm, attacked = options.calm, options.seconds
    load = start(directory / "load.log", options.programs / "millrace-producer", "load",
                 "--broker", f"127.0.0.1:{ports.frontend}", "--queue", "honest", "--rate", options.rate,
                 "--duration", f"{calm + attacked + RECOVERY_SECONDS + calm}s", "--timeout", "15s", "--quiet",
                 "--json", "--csv", directory / "rows.csv")
    begun = time.monotonic()
    time.sleep(calm)
    attacker = multiprocessing.Process(target=ATTACKS[name], args=(ports, begun + calm + attacked), daemon=True)
    attacker.start()
    before, largest, healthy = rss(cluster.broker.pid), 0, True
    while load.poll() is None and time.monotonic() < begun + attacked + 2 * calm + RECOVERY_SECONDS + 30:
        largest = max(largest, rss(cluster.broker.pid))
        if time.monotonic() < begun + calm + attacked and int(time.monotonic() * 4) % 8 == 0:
            healthy = healthy and answers(ports.http, "/healthz")
        time.sleep(0.1)
    attacker.kill()
    attacker.join()
    stop(load)
    alive = cluster.broker.poll() is None
    after = rss(cluster.broker.pid)
    code = cluster.end()
    rows = read_rows(directory / "rows.csv")
    ended = calm + attacked
    calm_p99 = percentile(rows, 0, calm)
    bound = max(2 * (calm_p99 or 0), options.least)
    under_p99 = percentile(rows, calm + 1, ended)
    result = {"attack": name, "alive": alive, "exit": code, "healthz": healthy, "calm_p99_ms": calm_p99,
              "attacked_p99_ms": under_p99, "recovery_s": recovery(rows, ended, bound),
              "rejected": sum(row["rejected"] for row in rows),
              "rss_mib": {"before": before // MIB, "largest": largest // MIB, "after": after // MIB}}
    result["passed"] = bool(alive and code == 0 and healthy and under_p99 is not None and under_p99 <= bound
                            and largest <= options.rss * MIB and result["recovery_s"] is not None
                            and result["recovery_s"] <= RECOVERY_SECONDS)
    return result


def parse(arguments):
    parser = argparse.ArgumentParser(prog="attack.sh", add_help=False)
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--calm", type=int, default=5)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--least", type=float, default=10.0)
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
        print(f"{'attack':20} {'calm p99':>9} {'p99':>9} {'recovery':>9} {'RSS MiB':>8}  result")
    for number_of, name in enumerate(options.attacks or ATTACKS):
        ports = Ports(options.port_base + 3 * number_of)
        directory = Path(tempfile.mkdtemp(prefix="millrace-attack-"))
        try:
            print(f"attack.sh: {name}: {' '.join(ATTACKS[name].__doc__.split())}", file=sys.stderr)
            result = measure(name, options, ports, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        results.append(result)
        if not options.json:
            print(f"{name:20} {number(result['calm_p99_ms'], 9)} {number(result['attacked_p99_ms'], 9)} "
                  f"{number(result['recovery_s'], 9)} {result['rss_mib']['largest']:>8}  "
                  f"{'passed' if result['passed'] else 'FAILED'}", flush=True)
    if options.json:
        print(json.dumps({"seconds": options.seconds, "rate": options.rate, "attacks": results}))
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
