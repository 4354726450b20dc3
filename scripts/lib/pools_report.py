"""What compare-pools.sh has gathered, as tables or as one JSON object, and as a chart."""
import argparse
import datetime
import json
import subprocess
import tempfile
from pathlib import Path

from bench_report import machine

TITLES = {"sleep": "2 ms of waiting", "cpu": "1 ms of computing", "mixed": "1 ms of waiting, 1 in 100 takes 100 ms"}
COLUMNS = (  # head, format, value
    ("jobs/s", ",.0f", lambda r: r["jobs_per_second"]),
    ("p50 ms", ",.1f", lambda r: r["latency_ms"]["p50"]),
    ("p99 ms", ",.1f", lambda r: r["latency_ms"]["p99"]),
    ("drain s", ",.1f", lambda r: r["drain_seconds"]),
    ("threads", ",.0f", lambda r: r["peak_threads"]),
    ("switches/job", ",.1f", lambda r: r["context_switches"] / max(1, r["jobs"])),
    ("CPU s", ",.1f", lambda r: r["cpu_seconds"]),
    ("RSS MiB", ",.1f", lambda r: r["max_rss_mib"]),
)


def kinds(records):
    return {kind: [r for r in records if r["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in records)}


def judge(records):
    """How auto stands to the best fixed number, for each kind."""
    verdicts = {}
    for kind, rows in kinds(records).items():
        fixed = [r for r in rows if r["pool"].startswith("fixed:")]
        auto = next((r for r in rows if r["pool"] == "auto"), None)
        if not fixed or not auto:
            continue
        fastest = max(fixed, key=lambda r: (r["jobs_per_second"], -r["latency_ms"]["p99"]))
        # Among those that are as fast: a pool that does less has less to delay.
        quick = min((r for r in fixed if r["jobs_per_second"] >= 0.95 * fastest["jobs_per_second"]),
                    key=lambda r: r["latency_ms"]["p99"])
        verdicts[kind] = {
            "fastest_fixed": fastest["pool"], "throughput": round(auto["jobs_per_second"] / fastest["jobs_per_second"], 3),
            "quickest_fixed": quick["pool"], "p99": round(auto["latency_ms"]["p99"] / quick["latency_ms"]["p99"], 2),
            "threads": auto["sizes"][-1]["threads"] if auto["sizes"] else None}
    return verdicts


def tables(report):
    host = report["machine"]
    lines = [f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}",
             f"{report['rate']:,} jobs/s for {report['seconds']} s"]
    for kind, rows in kinds(report["records"]).items():
        lines += ["", TITLES[kind], " ".join([f"{'pool':<10}", *(f"{head:>13}" for head, _, _ in COLUMNS)])]
        lines += [" ".join([f"{row['pool']:<10}", *(f"{format(value(row), form):>13}" for _, form, value in COLUMNS)])
                  for row in rows]
        if verdict := report["auto"].get(kind):
            lines.append(f"auto: {verdict['throughput']:.0%} of the throughput of {verdict['fastest_fixed']}, "
                         f"{verdict['p99']} × the p99 of {verdict['quickest_fixed']}")
    return "\n".join(lines)


def chart(report, path):
    """Three rows of bars: throughput, p99 and threads, a column for each kind."""
    plots = (("jobs/s", "", lambda r: r["jobs_per_second"]), ("p99, ms", "set logscale y", lambda r: r["latency_ms"]["p99"]),
             ("threads", "set logscale y", lambda r: r["peak_threads"]))
    script = ["set terminal svg size 1200,820 font 'sans,11' background 'white'", f"set output '{path}'",
              "set style data histogram", "set style fill solid 0.85 noborder", "set boxwidth 0.75", "set key off",
              "set grid ytics lc rgb '#dddddd'", "set xtics rotate by 35 right scale 0", "set border 3", "set tics nomirror",
              f"set multiplot layout 3,{len(kinds(report['records']))} "
              f"title '{report['rate']:,} jobs/s for {report['seconds']} s on {report['machine']['cores']} cores'"]
    for row, (label, setting, value) in enumerate(plots):
        for kind, records in kinds(report["records"]).items():
            block = f"$data_{row}_{kind}"
            script += [f"{block} << EOD", *(f"{i} {r['pool']} {max(value(r), 0.1)} {int(r['pool'] == 'auto')}"
                                            for i, r in enumerate(records)), "EOD",
                       "unset logscale y", setting, f"set title '{TITLES[kind] if row == 0 else ''}'", f"set ylabel '{label}'",
                       f"set yrange [{'0' if not setting else '*'}:*]",
                       f"plot {block} using 1:($4 == 0 ? $3 : 1/0):xtic(2) with boxes lc rgb '#5b7aa8', "
                       f"'' using 1:($4 == 1 ? $3 : 1/0) with boxes lc rgb '#d08030'"]
    with tempfile.NamedTemporaryFile("w", suffix=".gnuplot") as file:
        file.write("\n".join(script) + "\n")
        file.flush()
        subprocess.run(["gnuplot", file.name], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    records = [json.loads(line) for line in (options.dir / "records").read_text().splitlines()]
    report = {"command": options.command, "date": datetime.date.today().isoformat(), "machine": machine(options.dir),
              "rate": options.rate, "seconds": options.seconds, "records": records, "auto": judge(records)}
    if options.svg:
        chart(report, options.svg)
    print(json.dumps(report) if options.json else tables(report))


if __name__ == "__main__":
    main()
