"""What overload-demo.sh has gathered, as a table or as one JSON object, and as a picture. Exit 1 when
something was lost behind the queue."""
import argparse
import datetime
import json
import sys
from pathlib import Path

from bench_report import machine
from overload_picture import draw

NAMES = {"direct": "direct call", "single": "queue, single thread", "per-job": "queue, thread per job",
         "fixed": "queue, fixed pool of 16", "auto": "queue, self-sizing pool"}
COLUMNS = (  # head, format, value
    ("offered", ",.0f", lambda r: r["offered"]),
    ("answered", ",.0f", lambda r: r["answered"]),
    ("timed out", ",.0f", lambda r: r["timed_out"]),
    ("refused", ",.0f", lambda r: r["refused"] + r["unreachable"] + r["cut"]),
    ("lost", ",.0f", lambda r: r["lost"]),
    ("done", ",.0f", lambda r: r["done"]),
    ("p50 ms", ",.1f", lambda r: r["latency_ms"]["p50"]),
    ("p99 ms", ",.1f", lambda r: r["latency_ms"]["p99"]),
    ("drain s", ",.1f", lambda r: r["drain_seconds"]),
    ("threads", ",.0f", lambda r: r["peak_threads"]),
)


def verdict(report):
    """A sentence for each kind of system, and whether the queue kept what it took."""
    lines, kept = [], True
    for record in report["records"]:
        if record["system"] == "direct":
            share = record["lost"] / max(1, record["offered"])
            lines.append(f"Without a queue {record['lost']:,} of {record['offered']:,} requests were lost ({share:.0%}); "
                         f"{max(0, record['done'] - record['answered']):,} were run for nobody.")
        elif record["lost"]:
            kept = False
            lines.append(f"FAILED: {NAMES[record['system']]} lost {record['lost']:,} of {record['offered']:,}.")
    queued = [r for r in report["records"] if r["system"] != "direct"]
    if queued and kept:
        lines.append(f"Behind the queue nothing was lost: {sum(r['done'] for r in queued):,} of "
                     f"{sum(r['offered'] for r in queued):,} were answered and done.")
    return lines, kept


def table(report):
    host = report["machine"]
    lines = [f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}",
             f"{report['rate']:,} requests/s for {report['seconds']} s, {report['handler']} each, time-out 1 s", "",
             " ".join([f"{'':<24}", *(f"{head:>9}" for head, _, _ in COLUMNS)])]
    lines += [" ".join([f"{NAMES[record['system']]:<24}", *(f"{format(value(record), form):>9}"
                                                          for _, form, value in COLUMNS)])
              for record in report["records"]]
    return "\n".join([*lines, "", *report["verdict"]])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--handler", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    records = [json.loads(line) for line in (options.dir / "records").read_text().splitlines()]
    report = {"command": options.command, "date": datetime.date.today().isoformat(), "machine": machine(options.dir),
              "rate": options.rate, "seconds": options.seconds, "handler": options.handler, "records": records}
    report["verdict"], report["ok"] = verdict(report)
    if options.svg:
        draw(report, options.svg)
    print(json.dumps(report) if options.json else table(report))
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
