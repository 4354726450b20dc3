"""The figures that bench.sh has gathered, as a table or as one JSON object."""
import argparse
import datetime
import json
import os
import platform
import subprocess
from pathlib import Path


def machine(directory):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    disk = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", directory], capture_output=True, text=True, check=False)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": platform.release(),
            "filesystem": disk.stdout.strip()}


def gather(arguments):
    directory = arguments.dir
    figures = dict(line.split("=") for line in (directory / "figures").read_text().splitlines())
    loop, paced = (json.loads((directory / f"{name}.json").read_text()) for name in ("loop", "paced"))
    fdatasync_ms = int(figures["fdatasync_us"]) / 1000
    fresh, queued = (int(figures[f"rss_{name}_kib"]) for name in ("fresh", "queued"))
    ticks = os.sysconf("SC_CLK_TCK") * int(figures["idle_seconds"])
    return {
        "command": arguments.command, "date": datetime.date.today().isoformat(), "machine": machine(directory),
        "fdatasync_ms": fdatasync_ms,
        "loop": {"jobs": loop["completed"], "seconds": loop["seconds"], "jobs_per_second": round(loop["rate"]),
                 "latency_ms": loop["latency_ms"]},
        "paced": {"rate": 5000, "jobs": paced["completed"], "confirm_ms": paced["confirm_ms"],
                  "latency_ms": paced["latency_ms"],
                  "confirm_p50_in_fdatasyncs": round(paced["confirm_ms"]["p50"] / fdatasync_ms, 2)},
        "memory": {"fresh_rss_mib": round(fresh / 1024, 1), "queued_jobs": arguments.jobs,
                   "queued_rss_mib": round(queued / 1024, 1),
                   "bytes_per_queued_job": round((queued - fresh) * 1024 / arguments.jobs, 1)},
        "idle_percent_of_a_core": {name: round(100 * int(figures[f"idle_ticks_{name}"]) / ticks, 2)
                                   for name in ("broker", "worker")},
    }


def table(report):
    loop, paced, memory, idle = (report[key] for key in ("loop", "paced", "memory", "idle_percent_of_a_core"))
    confirm, host = paced["confirm_ms"], report["machine"]
    rows = [
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
