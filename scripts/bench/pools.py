"""The same load on every pool, for three kinds of job: what each threading model is good for.

Sends 5,000 jobs a second for 10 s to one worker, and waits for all of them, with each of the pools, for three kinds of job:
  sleep   2 ms of waiting, as for a database
  cpu     1 ms of computing
  mixed   1 ms of waiting, for one job in two hundred 200 ms (so that p99 is of the others)
Before each of them the same load runs for half the time, so that every pool has found its size. Prints jobs a second,
latency, threads, context switches, memory, and how long the rest took once the load was over. It takes about 20 minutes."""
import options
import report
import rig
from rig import Rig, check_ports, find_programs

RATE = 5000
POOLS = ("single", "per-job", "fixed:1", "fixed:4", "fixed:16", "fixed:64", "fixed:256", "auto")
KINDS = {"sleep": "sleep:2ms", "cpu": "burn:1ms", "mixed": "sleep:1ms,0.5%:200ms"}
TITLES = {"sleep": "2 ms of waiting", "cpu": "1 ms of computing", "mixed": "1 ms of waiting, 1 in 200 takes 200 ms"}
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


def measure(own, kind, pool, seconds):
    http = f"127.0.0.1:{own.base + 11}"  # of the worker

    def load(duration):
        return own.load("--queue", "pools", "--rate", RATE, "--duration", f"{duration}s", "--size", 64, "--quiet",
                        "--timeout", "20m")

    own.fresh(1, "--pool", pool, "--queue", f"pools={KINDS[kind]}", "--http", http)
    load(max(1, seconds // 2))
    before = rig.status(http, 10)["process"]
    peak = rig.PeakThreads(own.pid("worker-1"))
    loaded = load(seconds)
    threads = peak.stop()
    after = rig.status(http, 10)
    [lane], process = after["lanes"], after["process"]
    return {"kind": kind, "pool": pool, "jobs": loaded["completed"], "jobs_per_second": round(loaded["rate"]),
            "latency_ms": loaded["latency_ms"], "wait_ms": lane["wait_ms"], "run_ms": lane["run_ms"],
            "drain_seconds": round(max(0.0, loaded["seconds"] - loaded["submit_seconds"]), 2), "peak_threads": threads,
            "context_switches": sum(process["switches"].values()) - sum(before["switches"].values()),
            "cpu_seconds": round((process["cpu_ms"] - before["cpu_ms"]) / 1000, 2),
            "max_rss_mib": round(process["max_rss_kib"] / 1024, 1), "sizes": lane["sizes"]}


def kinds(records):
    return {kind: [r for r in records if r["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in records)}


def compare(records):
    """auto beside the best fixed number, for each kind."""
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


def tables(made):
    lines = [f"{made['rate']:,} jobs/s for {made['seconds']} s"]
    for kind, rows in kinds(made["records"]).items():
        lines += ["", TITLES[kind], *report.columns(COLUMNS, rows, lambda row: row["pool"], (10, 13), "pool")]
        if verdict := made["auto"].get(kind):
            lines.append(f"auto: {verdict['throughput']:.0%} of the throughput of {verdict['fastest_fixed']}, "
                         f"{verdict['p99']} × the p99 of {verdict['quickest_fixed']}")
    return lines


def chart(made, path):
    """Three rows of bars: throughput, p99 and threads, a column for each kind."""
    plots = (("jobs/s", "", lambda r: r["jobs_per_second"]), ("p99, ms", "set logscale y", lambda r: r["latency_ms"]["p99"]),
             ("threads", "set logscale y", lambda r: r["peak_threads"]))
    script = ["set style data histogram", "set style fill solid 0.85 noborder", "set boxwidth 0.75", "set key off",
              "set xtics rotate by 35 right scale 0", f"set multiplot layout 3,{len(kinds(made['records']))} "
              f"title '{made['rate']:,} jobs/s for {made['seconds']} s on {made['machine']['cores']} cores'"]
    for row, (label, setting, value) in enumerate(plots):
        for kind, records in kinds(made["records"]).items():
            block = f"$data_{row}_{kind}"
            script += [f"{block} << EOD", *(f"{i} {r['pool']} {max(value(r), 0.1)} {int(r['pool'] == 'auto')}"
                                            for i, r in enumerate(records)), "EOD",
                       "unset logscale y", setting, f"set title '{TITLES[kind] if row == 0 else ''}'", f"set ylabel '{label}'",
                       f"set yrange [{'0' if not setting else '*'}:*]",
                       f"plot {block} using 1:($4 == 0 ? $3 : 1/0):xtic(2) with boxes lc rgb '#5b7aa8', "
                       f"'' using 1:($4 == 1 ? $3 : 1/0) with boxes lc rgb '#d08030'"]
    report.gnuplot(path, "1200,820", script)


def main():
    parser = options.Parser("compare-pools.sh", __doc__, 5770, "P, P+1, P+10 and P+11")
    parser.add_argument("--quick", action="store_true", help="2 s instead of 10; for a look, not for a page")
    parser.add_number("--seconds", 1, 600, None, "seconds of load (10)")
    parser.add_names("--kind", KINDS, "only sleep, cpu or mixed")
    parser.add_argument("--pools", type=lambda text: text.split(","), default=POOLS, metavar="LIST",
                        help=f"only these ({','.join(POOLS)})")
    parser.add_svg()
    chosen = parser.parse()
    seconds = chosen.seconds or (2 if chosen.quick else 10)
    check_ports(chosen.port_base, (0, 1, 10, 11))
    records = []
    with Rig("compare-pools", chosen, find_programs()) as own:
        for kind in chosen.kind:
            for pool in chosen.pools:
                options.note(f"{kind} jobs on {pool}")
                records.append(measure(own, kind, pool, seconds))
        own.stop_all()
    made = report.begin(chosen, rate=RATE, seconds=seconds, records=records, auto=compare(records))
    if chosen.svg:
        chart(made, chosen.svg)
    report.show(chosen, made, tables(made))


if __name__ == "__main__":
    options.run(main)
