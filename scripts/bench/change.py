"""The load of a worker changes between waiting and computing: what each pool makes of it from 3 s after each change on.

Sends 5,000 jobs a second that wait 2 ms, then 1,000 that compute 1 ms, then the first again, to one worker, with each of
the pools. Each load lasts 3 s longer than what is measured of it. Prints jobs a second and latency of what was sent from 3 s
after the change on; and for auto when its size changed, in seconds after the change."""
import time

import options
import report
import rig
from rig import Rig, check_ports, find_programs

SETTLE = 3  # seconds after a change
LOADS = (("waiting", "wait", 5000), ("computing", "compute", 1000), ("waiting again", "wait", 5000))
POOLS = ("fixed:4", "fixed:16", "fixed:64", "auto")
COLUMNS = (  # head, format, value
    ("load", "", lambda r: r["load"]),
    ("jobs/s", ",.0f", lambda r: r["jobs_per_second"]),
    ("p50 ms", ",.1f", lambda r: r["latency_ms"]["p50"]),
    ("p99 ms", ",.1f", lambda r: r["latency_ms"]["p99"]),
    ("threads", ",.0f", lambda r: r["threads"]),
)


def measure(own, pool, seconds):
    http = f"127.0.0.1:{own.base + 11}"  # of the worker
    own.fresh(1, "--pool", pool, "--queue", "wait=sleep:2ms", "--queue", "compute=burn:1ms", "--http", http)
    records = []
    for load, queue, rate in LOADS:
        began = time.time()
        loaded = own.load("--queue", queue, "--rate", rate, "--warm-up", f"{SETTLE}s", "--duration", f"{seconds}s",
                          "--size", 64, "--quiet", "--timeout", "10m")
        [lane] = rig.status(http, 10)["lanes"]
        threads = lane["sizes"][-1]["threads"] if lane["sizes"] else lane["threads"]["total"]
        steps = [(round(size["since_ms"] / 1000 - began, 1), size["threads"], size["why"]) for size in lane["sizes"]]
        records.append({"pool": pool, "load": load, "jobs_per_second": round(loaded["rate"]),
                        "latency_ms": loaded["latency_ms"], "threads": threads,
                        "steps": [step for step in steps if step[0] >= 0]})
    return records


def compare(records):
    """auto beside the best fixed number, for each load."""
    verdicts = {}
    for load, _, _ in LOADS:
        fixed = [r for r in records if r["load"] == load and r["pool"].startswith("fixed:")]
        auto = next((r for r in records if r["load"] == load and r["pool"] == "auto"), None)
        if not fixed or not auto:
            continue
        most = max(r["jobs_per_second"] for r in fixed)
        quick = min((r for r in fixed if r["jobs_per_second"] >= 0.95 * most), key=lambda r: r["latency_ms"]["p99"])
        verdicts[load] = {"throughput": round(auto["jobs_per_second"] / most, 3), "quickest_fixed": quick["pool"],
                          "p99": round(auto["latency_ms"]["p99"] / quick["latency_ms"]["p99"], 2)}
    return verdicts


def tables(made):
    lines = [f"from {SETTLE} s after each change on, {made['seconds']} s",
             *report.columns(COLUMNS, made["records"], lambda row: row["pool"], (10, 14), "pool")]
    lines += [f"auto, {load}: {verdict['throughput']:.0%} of the throughput of the best, {verdict['p99']} × the p99 of "
              f"{verdict['quickest_fixed']}" for load, verdict in made["auto"].items()]
    for record in made["records"]:
        if record["pool"] == "auto":
            lines.append(f"auto, {record['load']}: " + (", ".join(f"{threads} threads at {after} s ({why})"
                                                                 for after, threads, why in record["steps"]) or "no change"))
    return lines


def main():
    parser = options.Parser("compare-change.sh", __doc__, 5970, "P, P+1, P+10 and P+11")
    parser.add_number("--seconds", 1, 600, 5, "seconds that are measured of each load")
    parser.add_argument("--pools", type=lambda text: text.split(","), default=POOLS, metavar="LIST",
                        help=f"only these ({','.join(POOLS)})")
    chosen = parser.parse()
    check_ports(chosen.port_base, (0, 1, 10, 11))
    records = []
    with Rig("compare-change", chosen, find_programs()) as own:
        for pool in chosen.pools:
            options.note(f"changing load on {pool}")
            records += measure(own, pool, chosen.seconds)
        own.stop_all()
    made = report.begin(chosen, seconds=chosen.seconds, records=records, auto=compare(records))
    report.show(chosen, made, tables(made))


if __name__ == "__main__":
    options.run(main)
