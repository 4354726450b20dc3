"""How throughput adds up: the durable job loop through one broker, two, three, interleaved in one run.

Sends jobs of 256 bytes as fast as they are taken through brokers with --fsync always and two echo workers that draw from
all of them; prints jobs a second, and for a job the CPU time of brokers (and of their core threads), workers and
producer, and the bytes that went to the disk."""
import os
import resource
import shutil
import statistics
from pathlib import Path

import options
import report
import rig
from options import UNAVAILABLE, USAGE, Failure
from rig import Rig, check_ports, find_programs

WORKERS = 2
PERIOD_US = 10_000  # a broker that is held to a part of a core has its part in each
HEAD = ("brokers  jobs/s of each round, median last                ratio  CPU us/job: brokers (core)  workers  producer"
        "  disk B/job")


class Group:
    """A control group of the CPU, version 2 or 1, which holds a process to a part of a core."""

    def __init__(self, name, pid, percent):
        parent = Path("/sys/fs/cgroup")
        second = (parent / "cgroup.controllers").exists()
        self.path = (parent if second else parent / "cpu") / name
        quota = PERIOD_US * percent // 100
        try:
            self.path.mkdir()
            if second:
                (self.path / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                (self.path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (self.path / "cpu.cfs_quota_us").write_text(str(quota))
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise Failure(UNAVAILABLE, f"--broker-cpu: {error}; it needs root and cgroups") from None


class Brokers:
    """So many brokers and two workers, for a round."""

    def __init__(self, own, number, chosen):
        self.own, self.chosen, self.groups = own, chosen, []
        self.brokers = [f"broker-{i}" for i in range(number)]
        self.workers = [f"worker-{i}" for i in range(WORKERS)]
        self.data = [self.data_of(i) for i in range(number)]

    def data_of(self, i):
        """Each has a directory of its own, however often --dirs names one."""
        parent = self.chosen.dirs[i] if self.chosen.dirs else self.own.directory
        return parent / f"millrace-bench-{os.getpid()}-{i}"

    def addresses(self, offset):
        return [f"127.0.0.1:{self.own.base + 3 * i + offset}" for i in range(len(self.brokers))]

    def __enter__(self):
        for i, (name, *addresses) in enumerate(zip(self.brokers, *map(self.addresses, range(3)))):
            frontend, backend, http = addresses
            process = self.own.start(name, "millrace-broker", "serve", "--fsync", "always", "--data", self.data[i],
                                     "--frontend", frontend, "--backend", backend, "--http", http)
            if self.chosen.broker_cpu:
                self.groups.append(Group(f"{self.data[i].name}", process.pid, self.chosen.broker_cpu))
        for name in self.workers:
            self.own.start(name, "millrace-worker", "run", "--broker", ",".join(self.addresses(1)), "--queue", "bench=echo",
                           "--pool", "fixed:1", "--name", name)
        for name, http in zip(self.brokers, self.addresses(2)):
            self.own.await_process(name, lambda http=http: has_workers(http), f"{name} does not have its workers")
        return self

    def __exit__(self, *_):
        self.own.stop_all()
        for group in self.groups:
            group.path.rmdir()
        for path in self.data:
            shutil.rmtree(path, ignore_errors=True)

    def used(self):
        """CPU ticks of brokers, their core threads and workers; bytes written."""
        brokers = [self.own.pid(name) for name in self.brokers]
        return {"broker": sum(map(rig.ticks, brokers)), "core": sum(rig.ticks(f"{pid}/task/{pid}") for pid in brokers),
                "worker": sum(rig.ticks(self.own.pid(name)) for name in self.workers),
                "bytes": sum(rig.field(f"{pid}/io", "write_bytes") for pid in brokers)}


def has_workers(http):
    try:
        return sum(worker["connected"] for worker in rig.status(http)["workers"]) == WORKERS
    except OSError:
        return False


def run_round(own, number, chosen):
    with Brokers(own, number, chosen) as running:
        before, producer = running.used(), resource.getrusage(resource.RUSAGE_CHILDREN)
        loaded = own.load("--queue", "bench", "--rate", "max", "--count", chosen.count, "--size", 256, "--quiet",
                          brokers=running.addresses(0))
        after, ended = running.used(), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = {name: (after[name] - before[name]) / chosen.count for name in after}
    return {"rate": loaded["rate"], **{f"{name}_us": 1e6 * spent[name] / rig.TICKS for name in ("broker", "core", "worker")},
            "producer_us": 1e6 * (ended.ru_utime - producer.ru_utime + ended.ru_stime - producer.ru_stime) / chosen.count,
            "disk_bytes": spent["bytes"]}


def rows_of(rounds):
    """A row for each number of brokers: the medians of its rounds."""
    rows = []
    for number, of_it in rounds.items():
        medians = {name: statistics.median(one[name] for one in of_it) for name in of_it[0]}
        first = rows[0]["rate"] if rows else medians["rate"]
        rows.append({"brokers": number, "rates": [round(one["rate"]) for one in of_it],
                     "ratio": round(medians["rate"] / first, 2),
                     **{name: round(value, 2) for name, value in medians.items()}})
    return rows


def line_of(row):
    rates = " ".join(f"{rate:>11,}" for rate in [*row["rates"], round(row["rate"])])
    return (f"{row['brokers']:>7}  {rates:<47}  {row['ratio']:>5.2f}  {row['broker_us']:>20.2f} ({row['core_us']:.2f})"
            f"  {row['worker_us']:>7.2f}  {row['producer_us']:>8.2f}  {row['disk_bytes']:>10.0f}")


def main():
    parser = options.Parser("bench-scaling.sh", __doc__, 25970, "P to P+2, three more for each further broker,")
    parser.add_number("--brokers", 1, 16, 3, "from one broker up to N")
    parser.add_number("--count", 1000, 100_000_000, 1_000_000, "jobs in a round")
    parser.add_number("--rounds", 1, 100, 3, "rounds of each number")
    parser.add_argument("--broker-cpu", type=options.number(10, 100), default=0, metavar="PERCENT",
                        help="hold each broker to this part of a core, as a slower machine would: then a machine of two "
                        "cores also shows how brokers add up. Needs root and cgroups")
    parser.add_argument("--dirs", type=lambda text: [options.directory(path) for path in text.split(",")], default=[],
                        metavar="A,B,C", help="a directory for each broker, on disks of their own (all in --dir)")
    chosen = parser.parse()
    if chosen.dirs and len(chosen.dirs) < chosen.brokers:
        raise Failure(USAGE, f"--dirs names {len(chosen.dirs)} directories for {chosen.brokers} brokers")
    check_ports(chosen.port_base, range(3 * chosen.brokers))
    rounds = {number: [] for number in range(1, chosen.brokers + 1)}
    with Rig("bench-scaling", chosen, find_programs()) as own:
        for i in range(chosen.rounds):
            for number, of_it in rounds.items():
                options.note(f"round {i + 1} of {chosen.rounds}, {number} of {chosen.brokers} brokers")
                of_it.append(run_round(own, number, chosen))
    rows = rows_of(rounds)
    made = report.begin(chosen, count=chosen.count, size=256, broker_cpu_percent=chosen.broker_cpu or None, rows=rows)
    report.show(chosen, made, [HEAD, *map(line_of, rows)])


if __name__ == "__main__":
    options.run(main)
