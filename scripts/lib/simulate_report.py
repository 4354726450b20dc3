"""The sums of several simulators that ran beside each other. Their reports are files with one JSON
object; a file with anything else is what a failing one printed, and makes the exit 1."""
import argparse
import json
import sys
from pathlib import Path


def add(total, part):
    for name, value in part.items():
        if isinstance(value, dict):
            add(total.setdefault(name, {}), value)
        elif name == "first_seed":
            total[name] = min(total.get(name, value), value)
        elif name == "seconds":
            total[name] = max(total.get(name, 0), value)
        elif name != "speed":
            total[name] = total.get(name, 0) + value


def table(total):
    print("{runs} runs from seed {first_seed} in {seconds:.0f} s: {simulated_seconds} simulated seconds "
          "({speed} a second of each core), {events} events".format(**total))
    print("{submitted} submissions ({confirmed} confirmed, {rejected} rejected, {unknown} unknown), "
          "{executed} executions, {failed_runs} runs failed".format(**total))
    for group, counters in total["coverage"].items():
        print(group)
        for name, times in counters.items():
            print(f"  {name:<32} {times:>12}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("reports", nargs="+", type=Path)
    flags = parser.parse_args()
    total, failed, seconds = {}, 0, 0.0
    for path in flags.reports:
        text = path.read_text()
        try:
            report = json.loads(text)
        except ValueError:
            failed += 1
            print(text, end="", file=sys.stderr)
            continue
        add(total, report)
        seconds += report["seconds"]
    if total:
        total["speed"] = round(total["simulated_seconds"] / max(seconds, 1e-9))
        total["jobs"] = len(flags.reports)
        total["failed_jobs"] = failed
        print(json.dumps(total)) if flags.json else table(total)
    return 1 if failed or total.get("failed_runs", 0) else 0


sys.exit(main())
