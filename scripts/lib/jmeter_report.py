"""What jmeter.sh has counted, as a table or as one JSON object, and as a chart. Exit 1 unless the gateway
answered everything with 202, and all of it is done."""
import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_report import machine

COLOURS = {"direct": "#b03a3a", "gateway": "#5b7aa8"}
ROWS = (  # head, value
    ("requests planned", lambda r: f"{r['planned']:,}"),
    ("sent", lambda r: f"{r['sent']:,}"),
    ("sent a second, median", lambda r: f"{r['median_rate']:,.0f}"),
    ("answered", lambda r: f"{r['answered']:,}"),
    ("timed out", lambda r: f"{r['timed_out']:,}"),
    ("never sent", lambda r: f"{r['unsent']:,}"),
    ("jobs confirmed", lambda r: "" if r["confirmed"] is None else f"{r['confirmed']:,}"),
    ("done", lambda r: f"{r['done']:,}"),
    ("lost", lambda r: f"{r['lost']:,}"),
    ("answer p50 / p99 / max ms", lambda r: "{p50} / {p99} / {max}".format(**r["elapsed_ms"])),
)


def holds(record):
    """Whether the gateway kept its word."""
    return (record["answered"] == record["codes"].get("202") == record["done"] == record["planned"]
            and record["lost"] == record["unfinished"] == 0)


def table(report):
    host, records = report["machine"], report["records"]
    lines = [f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}",
             f"JMeter 2.13, 100 threads, {report['rate']:,} requests/s; {report['handler']} of work each; behind the gateway "
             f"a worker with {report['pool']}", "", f"{'':<26}" + "".join(f"{r['system']:>18}" for r in records)]
    lines += [f"{head:<26}" + "".join(f"{value(r):>18}" for r in records) for head, value in ROWS]
    codes = sorted({code for r in records for code in r["codes"]})
    lines += [f"{'  ' + code:<26.26}" + "".join(f"{r['codes'].get(code, 0):>18,}" for r in records) for code in codes]
    return "\n".join([*lines, "", report["verdict"]])


def verdict(records):
    gateway = next((r for r in records if r["system"] == "gateway"), None)
    if not gateway:
        return "The gateway was not asked.", True
    text = f"{gateway['codes'].get('202', 0):,} of {gateway['planned']:,} requests were answered with 202, {gateway['done']:,} done."
    return (text, True) if holds(gateway) else (f"FAILED: {text}", False)


def chart(report, path):
    """Requests answered and the p99 of answers, second by second."""
    records = report["records"]
    seconds = max(len(r["per_second"]) for r in records)
    script = ["set terminal svg size 1000,620 font 'sans,12' background 'white'", f"set output '{path}'",
              "set grid ytics lc rgb '#dddddd'", "set border 3", "set tics nomirror", "set lmargin 10", "set rmargin 3",
              f"set xrange [0:{seconds}]", "set key top right horizontal samplen 1.5",
              f"set multiplot layout 2,1 title 'JMeter, 100 threads: {report['rate']:,} requests/s wanted, "
              f"{report['handler']} each, time-out 1 s'"]
    for r in records:
        script += [f"${r['system']} << EOD", *(f"{s['second'] + 0.5} {s['answered']} {max(s['p99_ms'], 0.5)}"
                                               for s in r["per_second"]), "EOD"]
    lines = [f"with linespoints pt 7 ps 0.35 lw 1.5 lc rgb '{COLOURS[r['system']]}' title '{r['system']}'" for r in records]
    script += ["set ylabel 'answered requests/s'", f"set yrange [0:{report['rate'] * 1.35}]",
               "plot " + ", ".join([f"{report['rate']} with lines dt 2 lc rgb '#444444' title 'wanted'",
                                    *(f"${r['system']} using 1:2 {line}" for r, line in zip(records, lines))]),
               "set ylabel 'p99 of answers, ms'", "set xlabel 's'", "set logscale y", "set yrange [0.5:5000]",
               "plot " + ", ".join(f"${r['system']} using 1:3 {line}" for r, line in zip(records, lines))]
    with tempfile.NamedTemporaryFile("w", suffix=".gnuplot") as file:
        file.write("\n".join(script) + "\n")
        file.flush()
        subprocess.run(["gnuplot", file.name], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--rate", type=int, required=True)
    for name in ("handler", "pool", "command"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    records = [json.loads(line) for line in (options.dir / "records").read_text().splitlines()]
    report = {"command": options.command, "date": datetime.date.today().isoformat(), "machine": machine(options.dir),
              "rate": options.rate, "handler": options.handler, "pool": options.pool, "records": records}
    report["verdict"], report["ok"] = verdict(records)
    if options.svg:
        chart(report, options.svg)
    print(json.dumps(report) if options.json else table(report))
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
