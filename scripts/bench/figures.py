"""The figures of this machine, each from the real programs with every confirm behind an fdatasync.

Measures, with --fsync always, in up to three parts:
  loop
  - one append of 4 KiB and its fdatasync, bare, for comparison
  - jobs a second through the whole loop: 1,000,000 of 256 bytes, two echo workers
  - how long a confirm takes at 5,000 jobs a second for 20 s
  - the broker's memory, empty and with 1,000,000 jobs queued
  - what an idle broker and an idle worker use of a core in 10 s
  journal
  - a commit of one job against bare loops of write and fdatasync, and of O_DSYNC
  - bytes written for a payload's byte, at 1, 100 and 10,000 jobs a commit
  - recovery against plainly reading the same files, from the disk and from the page cache
  backlog (not unless it is named: 4 minutes, 5 GB of disk)
  - RAM per queued job with a tenth, half and all of N jobs of 256 bytes queued, --memory 64MiB
  - from the start to /readyz after kill -9, with cold and warm cache, and after a clean stop
  - how fast one worker drains it, against a backlog of 100,000"""
import json
import os
import subprocess
import time

import backlog
import options
import report
import rig
from options import Failure
from rig import Rig, check_ports, find_programs

ECHO = ("--pool", "fixed:1", "--queue", "bench=echo")
LOAD = ("--queue", "bench", "--size", 256)


def append_ms(directory):
    """The median time of one append of 4 KiB and its fdatasync."""
    path, block, times = directory / "fdatasync.tmp", os.urandom(4096), []
    end = time.monotonic() + 5
    with open(path, "ab", buffering=0) as file:
        while len(times) < 2000 and time.monotonic() < end:
            began = time.perf_counter_ns()
            file.write(block)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter_ns() - began)
    path.unlink()
    return sorted(times)[len(times) // 2] // 1000 / 1000


def memory(own, jobs):
    options.note("memory")
    own.fresh(0)
    fresh = rig.resident_kib(own.pid("broker"))
    own.load(*LOAD, "--rate", "max", "--count", jobs, "--no-wait")
    queued = rig.resident_kib(own.pid("broker"))
    return {"fresh_rss_mib": round(fresh / 1024, 1), "queued_jobs": jobs, "queued_rss_mib": round(queued / 1024, 1),
            "bytes_per_queued_job": round((queued - fresh) * 1024 / jobs, 1)}


def idle(own, seconds):
    options.note("idle use")
    own.fresh(1, *ECHO)
    percents = {}
    for name, process in (("broker", "broker"), ("worker", "worker-1")):
        before = rig.ticks(own.pid(process))
        time.sleep(seconds)
        percents[name] = round(100 * (rig.ticks(own.pid(process)) - before) / (rig.TICKS * seconds), 2)
    return percents


def measure_loop(own, chosen):
    jobs, seconds, idle_seconds = (200_000, 5, 3) if chosen.quick else (1_000_000, 20, 10)
    options.note("bare fdatasync")
    bare_ms = append_ms(own.directory)
    options.note(f"the whole loop, {jobs} jobs at full speed")
    own.fresh(2, *ECHO)
    loop = own.load(*LOAD, "--rate", "max", "--count", jobs, "--verify")
    options.note(f"5,000 jobs a second for {seconds} s")
    own.fresh(2, *ECHO)
    paced = own.load(*LOAD, "--rate", 5000, "--duration", f"{seconds}s", "--verify")
    return {"fdatasync_ms": bare_ms,
            "loop": {"jobs": loop["completed"], "seconds": loop["seconds"], "jobs_per_second": round(loop["rate"]),
                     "latency_ms": loop["latency_ms"]},
            "paced": {"rate": 5000, "jobs": paced["completed"], "confirm_ms": paced["confirm_ms"],
                      "latency_ms": paced["latency_ms"],
                      "confirm_p50_in_fdatasyncs": round(paced["confirm_ms"]["p50"] / bare_ms, 2)},
            "memory": memory(own, jobs), "idle_percent_of_a_core": idle(own, idle_seconds)}


def measure_journal(own, chosen):
    options.note("the journal by itself")
    done = subprocess.run([own.programs / "journal_bench", own.directory, "128" if chosen.quick else "1024", "--json"],
                          stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failure(1, f"journal_bench ended with {done.returncode}")
    return {"journal": json.loads(done.stdout)}


def measure_backlog(own, chosen):
    return {"backlog": backlog.measure(own, chosen.backlog or (2_000_000 if chosen.quick else 10_000_000))}


def loop_rows(made):
    loop, paced, held, idle_percents = (made[key] for key in ("loop", "paced", "memory", "idle_percent_of_a_core"))
    confirm = paced["confirm_ms"]
    return [
        ("append of 4 KiB + fdatasync, bare, p50", f"{made['fdatasync_ms']:.2f} ms"),
        (f"whole loop, {loop['jobs']:,} jobs of 256 B, two echo workers", f"{loop['jobs_per_second']:,} jobs/s"),
        ("confirm at 5,000 jobs/s, p50", f"{confirm['p50']:.2f} ms = {paced['confirm_p50_in_fdatasyncs']} × fdatasync"),
        ("confirm at 5,000 jobs/s, p99", f"{confirm['p99']:.2f} ms"),
        ("broker's memory (RSS), empty", f"{held['fresh_rss_mib']} MiB"),
        (f"broker's memory (RSS), {held['queued_jobs']:,} jobs of 256 B queued",
         f"{held['queued_rss_mib']} MiB = {held['bytes_per_queued_job']} B per job more"),
        ("idle broker", f"{idle_percents['broker']} % of a core"),
        ("idle worker", f"{idle_percents['worker']} % of a core"),
    ]


def journal_rows(journal):
    def percentiles(figures):
        return f"{figures['p50_us']:.0f} µs, {figures['p99_us']:.0f} µs"

    rows = [(f"bare 4 KiB, {how}, {where}: p50, p99", percentiles(figures))
            for how, cases in journal["bare"].items() for where, figures in cases.items()]
    rows.append(("journal, a commit of one job: p50, p99", percentiles(journal["commit"])))
    rows += [(f"bytes written per payload byte, {int(jobs):,} jobs a commit",
              f"{figures['in_batches']} in batches, {figures['to_the_disk']} to the disk")
             for jobs, figures in sorted(journal["amplification"].items(), key=lambda item: int(item[0]))]
    rows += [(f"journal of 128 KiB chunks, segments {kind.replace('_', ' ')}", f"{figures['mb_per_second']:.0f} MB/s")
             for kind, figures in journal["throughput"].items()]
    rows += [(f"replay, {cache} cache; plainly reading the same files",
              f"{figures['replay_gb_per_second']} GB/s; {figures['plain_gb_per_second']} GB/s")
             for cache, figures in journal["recovery"].items()]
    return rows


def rows_of(made):
    return [*(loop_rows(made) if "loop" in made else []), *(journal_rows(made["journal"]) if "journal" in made else []),
            *(backlog.rows(made["backlog"]) if "backlog" in made else [])]


MEASURES = {"loop": measure_loop, "journal": measure_journal, "backlog": measure_backlog}


def main():
    parser = options.Parser("bench.sh", __doc__, 5670)
    parser.add_argument("--quick", action="store_true",
                        help="a fifth of the jobs, a quarter of the time; for a look, not for a README")
    parser.add_argument("--parts", type=options.some_of(MEASURES), default=["loop", "journal"], metavar="LIST",
                        help="which of them, with commas (loop,journal)")
    parser.add_number("--backlog", 10, 100_000_000, None, "jobs of the backlog (10,000,000; with --quick 2,000,000)")
    chosen = parser.parse()
    check_ports(chosen.port_base)
    others = ["journal_bench"] if "journal" in chosen.parts else []
    made = {}
    with Rig("bench", chosen, find_programs("--bench", *others)) as own:
        for part in chosen.parts:
            made |= MEASURES[part](own, chosen)
            own.stop_all()
    made = report.begin(chosen, **made)
    report.show(chosen, made, ["", *report.pairs(rows_of(made))])


if __name__ == "__main__":
    options.run(main)
