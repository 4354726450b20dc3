"""What compare-exec.sh has timed, as a line or as one JSON object."""
import argparse
import datetime
import json
import statistics
from pathlib import Path

from bench_report import machine


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    times = {"xargs": [], "exec": []}
    for line in (options.dir / "figures").read_text().splitlines():
        name, milliseconds = line.split("=")
        times[name].append(int(milliseconds))
    rates = {name: round(options.jobs * 1000 / statistics.median(values)) for name, values in times.items()}
    report = {"command": options.command, "date": datetime.date.today().isoformat(), "machine": machine(options.dir),
              "jobs": options.jobs, "parallel": options.parallel, "rounds": len(times["exec"]),
              "xargs_per_second": rates["xargs"], "exec_per_second": rates["exec"],
              "ratio": round(rates["exec"] / rates["xargs"], 2)}
    if options.json:
        print(json.dumps(report))
        return
    host = report["machine"]
    print(f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}\n"
          f"{options.jobs:,} commands, {options.parallel} at a time: xargs {rates['xargs']:,}/s, "
          f"exec: {rates['exec']:,}/s, {report['ratio']} × as many")


if __name__ == "__main__":
    main()
