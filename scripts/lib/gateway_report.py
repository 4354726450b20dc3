"""The figures that bench-gateway.sh has gathered, as a table or as one JSON object."""
import argparse
import datetime
import json
import statistics
import sys
from pathlib import Path

from bench_report import machine

CONNECTIONS = (64, 2000)


def counted(path):
    [line] = [line for line in path.read_text().splitlines() if line.startswith("JSON ")]
    return json.loads(line[5:])


def figures(directory, name, connections, rounds):
    """Of the round whose rate is the middle one."""
    runs = [counted(directory / f"{name}-{connections}-{i}.wrk") for i in range(1, rounds + 1)]
    for run in runs:
        run["rate"] = run["requests"] * 1e6 / run["microseconds"]
    middle = statistics.median_low([run["rate"] for run in runs])
    run = next(run for run in runs if run["rate"] == middle)
    return {"requests_per_second": round(run["rate"]), "p50_ms": run["p50_us"] / 1000, "p99_ms": run["p99_us"] / 1000,
            "max_ms": run["max_us"] / 1000, "not_202": sum(run["others"] for run in runs),
            "errors": sum(run["errors"] for run in runs),
            "rates": [round(run["rate"]) for run in runs]}


def gather(arguments):
    report = {"command": arguments.command, "date": datetime.date.today().isoformat(),
              "machine": machine(arguments.dir), "seconds": arguments.seconds, "rounds": arguments.rounds, "connections": {}}
    for connections in CONNECTIONS:
        baseline, gateway = (figures(arguments.dir, name, connections, arguments.rounds) for name in ("baseline", "gateway"))
        report["connections"][str(connections)] = {
            "baseline": baseline, "gateway": gateway,
            "percent": round(100 * gateway["requests_per_second"] / baseline["requests_per_second"], 1)}
    statuses = [json.loads(path.read_text()) for path in arguments.dir.glob("status-*.json")]
    report["broker"] = {"accepted": sum(status["totals"]["accepted"] for status in statuses),
                        "commits": sum(status["journal"]["commits"] for status in statuses)}
    return report


def table(report):
    host = report["machine"]
    lines = [f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}", "",
             f"{'kept connections':>16}  {'':<24}{'POST/s':>10}{'p50':>11}{'p99':>11}{'max':>11}"]
    for connections, pair in report["connections"].items():
        for name, label in (("baseline", "202 at once, no broker"), ("gateway", "202 when synced")):
            run = pair[name]
            lines.append(f"{connections:>16}  {label:<24}{run['requests_per_second']:>10,}"
                         + "".join(f"{run[key]:>8.2f} ms" for key in ("p50_ms", "p99_ms", "max_ms")))
        lines.append(f"{'':>16}  {'gateway / no broker':<24}{pair['percent']:>9} %")
    broker = report["broker"]
    lines += ["", f"{broker['accepted']:,} jobs durable in {broker['commits']:,} commits"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = gather(arguments)
    print(json.dumps(report) if arguments.json else table(report))
    bad = sum(run[key] for pair in report["connections"].values() for run in (pair["baseline"], pair["gateway"])
              for key in ("not_202", "errors"))
    if bad:
        sys.exit(f"bench-gateway.sh: {bad} requests were not answered with 202")


if __name__ == "__main__":
    main()
