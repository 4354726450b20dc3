"""What hostile and broken peers cost: each attack against a broker of its own, beside an honest load.

Starts a broker and an echo worker on 127.0.0.1 for each attack (all of them by default), sends an honest load, and prints
for each the load's confirm p99: in calm, while the same attackers attack a second broker (the control: what sharing the
machine with them costs), and while they attack this one; then how long it took to recover, and the broker's largest RSS.
The p99 is the median of the seconds of all rounds. An attack passes if the broker lives and answers /healthz, the p99 is
at most twice the larger of calm and control (or --least), it recovers within 5 s, and the RSS stays below --rss."""
import csv
import multiprocessing
import statistics
import sys
import time

import options
import report
import rig
from options import USAGE, Failure
from rig import Rig, find_programs

try:
    from attacks import ATTACKS
except ModuleNotFoundError:
    sys.exit("attack.sh: needs Debian's python3-zmq and python3-msgpack; scripts/setup.sh installs them")

RECOVERY_SECONDS = 5
SETTLE_SECONDS = 1  # between the control and the attack


class Ports:
    def __init__(self, base):
        self.frontend, self.backend, self.http = base, base + 1, base + 2


def rss_mib(pid):
    try:
        return rig.resident_kib(pid) // 1024
    except (OSError, ValueError):  # it has ended
        return 0


class Cluster:
    """A broker and an echo worker of one attack."""

    def __init__(self, own, name, ports, chosen):
        self.own, self.broker, self.worker = own, f"broker-{name}", f"worker-{name}"
        self.http = f"127.0.0.1:{ports.http}"
        process = own.start(self.broker, "/usr/bin/prlimit", f"--nofile={chosen.open_files}",
                            own.programs / "millrace-broker", "serve", "--data", own.directory / name,
                            "--frontend", f"127.0.0.1:{ports.frontend}", "--backend", f"127.0.0.1:{ports.backend}",
                            "--http", self.http, *chosen.flag)
        self.pid = process.pid
        own.await_process(self.broker, lambda: rig.answers(self.http), "the broker is not ready")
        own.start(self.worker, "millrace-worker", "run", "--broker", f"127.0.0.1:{ports.backend}", "--queue", "honest=echo",
                  "--queue", "echo=echo")

    def end(self):
        """The broker's exit code."""
        self.own.stop(self.worker)
        return self.own.stop(self.broker)[self.broker]


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

    def __init__(self, name, chosen, own, base):
        self.name, self.chosen, self.own, self.ports = name, chosen, own, (Ports(base), Ports(base + 3))
        self.control = (chosen.calm, chosen.calm + chosen.seconds)
        self.attack = (self.control[1] + SETTLE_SECONDS, self.control[1] + SETTLE_SECONDS + chosen.seconds)
        self.end = self.attack[1] + RECOVERY_SECONDS + 2
        self.healthy, self.largest = True, 0

    def run(self):
        own, rows = self.own, self.own.directory / "rows.csv"
        cluster, second = (Cluster(own, name, ports, self.chosen) for name, ports in zip(("first", "second"), self.ports))
        own.start("load", "millrace-producer", "load", "--broker", f"127.0.0.1:{self.ports[0].frontend}", "--queue",
                  "honest", "--rate", self.chosen.rate, "--duration", f"{self.end}s", "--timeout", "15s", "--quiet", "--json",
                  "--csv", rows)
        self.begun = time.monotonic()
        self.run_attack(self.ports[1], *self.control)
        second.end()
        self.before = rss_mib(cluster.pid)
        self.run_attack(self.ports[0], *self.attack, cluster)
        while own.running("load") and time.monotonic() < self.begun + self.end + 30:
            self.watch(cluster)
        own.stop("load")
        self.alive = own.running(cluster.broker)
        self.after = rss_mib(cluster.pid)
        self.code = cluster.end()
        self.rows = read_rows(rows)
        return self

    def run_attack(self, ports, first, last, watched=None):
        time.sleep(max(0.0, self.begun + first - time.monotonic()))
        attacker = multiprocessing.Process(target=ATTACKS[self.name], args=(ports, self.begun + last), daemon=True)
        attacker.start()
        next_question = 0.0
        while time.monotonic() < self.begun + last:
            if watched and time.monotonic() >= next_question:
                self.healthy = rig.answers(watched.http, "/healthz", 2) and self.healthy
                next_question = time.monotonic() + 2
            self.watch(watched)
        attacker.kill()
        attacker.join()

    def watch(self, cluster):
        if cluster:
            self.largest = max(self.largest, rss_mib(cluster.pid))
        time.sleep(0.1)

    def calm_p99s(self):
        return p99s(self.rows, 0, self.control[0])

    def control_p99s(self):
        return p99s(self.rows, self.control[0] + 1, self.control[1])

    def attack_p99s(self):
        return p99s(self.rows, self.attack[0] + 1, self.attack[1])


def measure(name, chosen, programs, base):
    rounds = []
    for _ in range(chosen.rounds):
        with Rig("attack", chosen, programs) as own:
            rounds.append(Round(name, chosen, own, base).run())
    calm, control, attack = (median([p99 for each in rounds for p99 in of(each)])
                             for of in (Round.calm_p99s, Round.control_p99s, Round.attack_p99s))
    bound = max(2 * (calm or 0), 2 * (control or 0), chosen.least)
    recoveries = [recovery(each.rows, each.attack[1], bound) for each in rounds]
    recovered = None if None in recoveries else max(recoveries)
    result = {"attack": name, "alive": all(each.alive for each in rounds), "exit": max(each.code for each in rounds),
              "healthz": all(each.healthy for each in rounds), "calm_p99_ms": calm, "control_p99_ms": control,
              "attacked_p99_ms": attack, "bound_ms": bound, "recovery_s": recovered,
              "rejected": sum(row["rejected"] for each in rounds for row in each.rows),
              "rss_mib": {"before": rounds[-1].before, "largest": max(each.largest for each in rounds),
                          "after": rounds[-1].after}}
    result["within_twice_calm"] = attack is not None and attack <= 2 * (calm or 0)
    result["passed"] = bool(result["alive"] and all(each.code == 0 for each in rounds) and result["healthz"]
                            and attack is not None and attack <= bound
                            and result["rss_mib"]["largest"] <= chosen.rss
                            and recovered is not None and recovered <= RECOVERY_SECONDS)
    return result


def number(value, width):
    return f"{value:>{width}.1f}" if value is not None else " " * (width - 1) + "-"


def line_of(result):
    return (f"{result['attack']:20} {number(result['calm_p99_ms'], 8)} {number(result['control_p99_ms'], 8)} "
            f"{number(result['attacked_p99_ms'], 8)} {number(result['recovery_s'], 9)} "
            f"{result['rss_mib']['largest']:>8}  {'passed' if result['passed'] else 'FAILED'}"
            f"{'' if result['within_twice_calm'] else ' (above twice calm)'}")


def what(name):
    return " ".join(ATTACKS[name].__doc__.split())


def main():
    parser = options.Parser("attack.sh", __doc__, 26370, "P to P+5 for the first attack, six more for each further one,",
                            "an attack did not pass")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="only these")
    parser.add_argument("--list", action="store_true", help="name the attacks")
    parser.add_number("--rounds", 1, 100, 3, "rounds of calm, control, attack and recovery, each with new brokers")
    parser.add_number("--seconds", 1, 3600, 5, "seconds of an attack, and of its control")
    parser.add_number("--calm", 1, 3600, 4, "seconds of calm")
    parser.add_number("--rate", 1, 1_000_000, 1000, "honest submissions a second")
    parser.add_argument("--least", type=float, default=5.0, metavar="MS",
                        help="a p99 up to this always passes (5): a calm p99 of 1 ms is mostly luck")
    parser.add_number("--rss", 1, 1_000_000, 1024, "bound of the broker's RSS in MiB")
    parser.add_number("--open-files", 64, 1_000_000, 1024, "the broker's limit of open files")
    parser.add_argument("--flag", action="append", default=[], metavar="FLAG",
                        help="a flag for 'millrace-broker serve', as --flag=--max-queued=100000; may be repeated")
    chosen = parser.parse()
    if chosen.list:
        print("\n".join(f"{name:20} {what(name)}" for name in ATTACKS))
        return 0
    unknown = [name for name in chosen.attacks if name not in ATTACKS]
    if unknown:
        raise Failure(USAGE, f"'{unknown[0]}' is not an attack; 'scripts/attack.sh --list' names them")
    programs = find_programs()
    results = []
    for i, name in enumerate(chosen.attacks or ATTACKS):
        options.note(f"{name}: {what(name)}")
        results.append(measure(name, chosen, programs, chosen.port_base + 6 * i))
        options.note(line_of(results[-1]))
    made = report.begin(chosen, seconds=chosen.seconds, rounds=chosen.rounds, rate=chosen.rate, attacks=results)
    report.show(chosen, made, [f"{'attack':20} {'calm':>8} {'control':>8} {'attack':>8} {'recovery':>9} {'RSS MiB':>8}  result",
                               *map(line_of, results)])
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    options.run(main)
