"""The figures that bench.sh has gathered, as a table or as one JSON object."""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path


def machine(directory):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    disk = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", directory], capture_output=True, text=True, check=False)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": platform.release(),
            "filesystem": disk.stdout.strip()}


def read_figures(directory):
    """Each name with all its values, in order: some are measured several times."""
    figures = {}
    path = directory / "figures"
    for line in path.read_text().splitlines() if path.exists() else []:
        name, value = line.split("=")
        figures.setdefault(name, []).append(value)
    return figures


def loop_figures(directory, figures, jobs):
    loop, paced = (json.loads((directory / f"{name}.json").read_text()) for name in ("loop", "paced"))
    fdatasync_ms = int(figures["fdatasync_us"][0]) / 1000
    fresh, queued = (int(figures[f"rss_{name}_kib"][0]) for name in ("fresh", "queued"))
    ticks = os.sysconf("SC_CLK_TCK") * int(figures["idle_seconds"][0])
    return {
        "fdatasync_ms": fdatasync_ms,
        "loop": {"jobs": loop["completed"], "seconds": loop["seconds"], "jobs_per_second": round(loop["rate"]),
                 "latency_ms": loop["latency_ms"]},
        "paced": {"rate": 5000, "jobs": paced["completed"], "confirm_ms": paced["confirm_ms"],
                  "latency_ms": paced["latency_ms"],
                  "confirm_p50_in_fdatasyncs": round(paced["confirm_ms"]["p50"] / fdatasync_ms, 2)},
        "memory": {"fresh_rss_mib": round(fresh / 1024, 1), "queued_jobs": jobs,
                   "queued_rss_mib": round(queued / 1024, 1),
                   "bytes_per_queued_job": round((queued - fresh) * 1024 / jobs, 1)},
        "idle_percent_of_a_core": {name: round(100 * int(figures[f"idle_ticks_{name}"][0]) / ticks, 2)
                                   for name in ("broker", "worker")},
    }


def backlog_memory(figures):
    """RSS at each number of jobs; a job's share is what is above the empty broker and its payloads' budget (below 0:
    the budget is not used up)."""
    prefix = "backlog_rss_kib_"
    rss = sorted((int(name[len(prefix):]), int(values[0])) for name, values in figures.items() if name.startswith(prefix))
    (_, fresh), *steps = rss
    fixed = fresh + int(figures["backlog_budget_kib"][0])
    (first, first_kib), (last, last_kib) = steps[-2:]
    return {"fresh_rss_mib": round(fresh / 1024, 1), "payloads_mib": int(figures["backlog_budget_kib"][0]) // 1024,
            "queued": [{"jobs": jobs, "rss_mib": round(kib / 1024, 1),
                        "bytes_per_job": round((kib - fixed) * 1024 / jobs, 1)} for jobs, kib in steps],
            "bytes_per_further_job": round((last_kib - first_kib) * 1024 / (last - first), 1)}


def backlog_figures(figures):
    number = {name: int(values[0]) for name, values in figures.items() if " " not in values[0]}
    jobs, shallow_jobs = number["backlog_jobs"], number["shallow_jobs"]
    shallow = statistics.median(shallow_jobs * 1000 / int(ms) for ms in figures["drain_shallow_ms"])
    deep = jobs * 1000 / number["drain_deep_ms"]
    recovery = {}
    for cache, start in (("cold", "start_cold_ms"), ("warm", "start_killed_ms")):
        size, ms = map(int, figures[f"plain_{cache}"][0].split())
        recovery[cache] = {"journal_bytes": size, "plain_seconds": ms / 1000, "start_seconds": number[start] / 1000,
                           "plain_gb_per_second": round(size / ms / 1e6, 2),
                           "start_gb_per_second": round(size / number[start] / 1e6, 2)}
    return {"jobs": jobs, "memory": backlog_memory(figures), "start_after_kill": recovery,
            "start_after_stop": {"seconds": number["start_stopped_ms"] / 1000,
                                 "by_snapshot": "start_by_snapshot" in number},
            "drain": {"shallow_jobs": shallow_jobs, "shallow_jobs_per_second": round(shallow),
                      "jobs_per_second": round(deep), "of_shallow": round(deep / shallow, 2)}}


def gather(arguments):
    figures = read_figures(arguments.dir)
    report = {"command": arguments.command, "date": datetime.date.today().isoformat(),
              "machine": machine(arguments.dir)}
    if "rss_queued_kib" in figures:
        report |= loop_figures(arguments.dir, figures, arguments.jobs)
    if (path := arguments.dir / "journal.json").exists():
        report["journal"] = json.loads(path.read_text())
    if "backlog_jobs" in figures:
        report["backlog"] = backlog_figures(figures)
    return report


def loop_rows(report):
    loop, paced, memory, idle = (report[key] for key in ("loop", "paced", "memory", "idle_percent_of_a_core"))
    confirm = paced["confirm_ms"]
    return [
        ("append of 4 KiB + fdatasync, bare, p50", f"{report['fdatasync_ms']:.2f} ms"),
        (f"whole loop, {loop['jobs']:,} jobs of 256 B, two echo workers", f"{loop['jobs_per_second']:,} jobs/s"),
        ("confirm at 5,000 jobs/s, p50", f"{confirm['p50']:.2f} ms = {paced['confirm_p50_in_fdatasyncs']} × fdatasync"),
        ("confirm at 5,000 jobs/s, p99", f"{confirm['p99']:.2f} ms"),
        ("broker's memory (RSS), empty", f"{memory['fresh_rss_mib']} MiB"),
        (f"broker's memory (RSS), {memory['queued_jobs']:,} jobs of 256 B queued",
         f"{memory['queued_rss_mib']} MiB = {memory['bytes_per_queued_job']} B a job more"),
        ("idle broker", f"{idle['broker']} % of a core"),
        ("idle worker", f"{idle['worker']} % of a core"),
    ]


def journal_rows(journal):
    def percentiles(figures):
        return f"{figures['p50_us']:.0f} µs, {figures['p99_us']:.0f} µs"

    rows = [(f"bare 4 KiB, {how}, {where}: p50, p99", percentiles(figures))
            for how, cases in journal["bare"].items() for where, figures in cases.items()]
    rows.append(("journal, a commit of one job: p50, p99", percentiles(journal["commit"])))
    rows += [(f"bytes written a payload's byte, {int(jobs):,} jobs a commit",
              f"{figures['in_batches']} in batches, {figures['to_the_disk']} to the disk")
             for jobs, figures in sorted(journal["amplification"].items(), key=lambda item: int(item[0]))]
    rows += [(f"journal of 128 KiB chunks, segments {kind.replace('_', ' ')}", f"{figures['mb_per_second']:.0f} MB/s")
             for kind, figures in journal["throughput"].items()]
    rows += [(f"replay, {cache} cache; plainly reading the same files",
              f"{figures['replay_gb_per_second']} GB/s; {figures['plain_gb_per_second']} GB/s")
             for cache, figures in journal["recovery"].items()]
    return rows


def backlog_rows(backlog):
    memory, drain, stop = backlog["memory"], backlog["drain"], backlog["start_after_stop"]
    rows = [("broker's memory (RSS), empty; budget for payloads",
             f"{memory['fresh_rss_mib']} MiB; {memory['payloads_mib']} MiB")]
    rows += [(f"broker's memory (RSS), {step['jobs']:,} jobs of 256 B queued",
              f"{step['rss_mib']} MiB = {step['bytes_per_job']} B a job above these") for step in memory["queued"]]
    rows.append(("a further job", f"{memory['bytes_per_further_job']} B"))
    for cache, figures in backlog["start_after_kill"].items():
        rows.append((f"start to ready after kill -9, {cache} cache",
                     f"{figures['start_seconds']:.2f} s = {figures['start_gb_per_second']} GB/s"))
        rows.append((f"plainly reading the same files, {cache} cache",
                     f"{figures['plain_seconds']:.2f} s = {figures['plain_gb_per_second']} GB/s"))
    rows.append(("start to ready after a clean stop",
                 f"{stop['seconds']:.2f} s, {'by a snapshot' if stop['by_snapshot'] else 'without a snapshot'}"))
    rows.append((f"drained, {drain['shallow_jobs']:,} jobs queued", f"{drain['shallow_jobs_per_second']:,} jobs/s"))
    rows.append((f"drained, {backlog['jobs']:,} jobs queued",
                 f"{drain['jobs_per_second']:,} jobs/s = {drain['of_shallow']} of that"))
    return rows


def table(report):
    host = report["machine"]
    rows = loop_rows(report) if "loop" in report else []
    rows += journal_rows(report["journal"]) if "journal" in report else []
    rows += backlog_rows(report["backlog"]) if "backlog" in report else []
    lines = [f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}", ""]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(lines + [f"{name:<{width}}{value}" for name, value in rows])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = gather(arguments)
    print(json.dumps(report) if arguments.json else table(report))


if __name__ == "__main__":
    main()
