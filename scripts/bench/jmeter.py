"""Apache JMeter's burst against a server without a queue and against the gateway, and the count.

Installs Debian's JMeter, builds Millrace, and runs scripts/jmeter/burst.jmx: 100 threads × 3,000 POSTs, each thread 50 a
second: 300,000 at 5,000 a second, with a time-out of 1 s. One after the other to
  direct   a server of one thread that does the 2 ms of work itself, without a queue; JMeter's threads wait for its
           answers, so it stops after the time of the load, with what was sent until then
  gateway  the gateway, with a broker and a worker behind, all on this machine
and counts responses by code, time-outs, jobs confirmed, done and lost."""
import collections
import csv
import glob
import re
import statistics
import subprocess

import front
import options
import report
from options import ROOT, UNAVAILABLE, Failure
from rig import Rig, check_ports, find_programs

THREADS, PACE = 100, 50  # requests a second of each thread
JMETER = "/usr/share/jmeter"
# With -n JMeter listens on a port; two at a time could not run.
PROPERTIES = ("jmeterengine.nongui.port=0", *(f"jmeter.save.saveservice.{name}" for name in (
    "output_format=csv", "print_field_names=true", "label=false", "thread_name=false", "data_type=false", "bytes=false",
    "thread_counts=false")))
TIMED_OUT = re.compile("Timeout|Timed ?out", re.IGNORECASE)
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


def run_jmeter(own, samples, loops, seconds):
    """The plan, for at most that long."""
    jars = ":".join([f"{JMETER}/bin/ApacheJMeter.jar", *glob.glob(f"{JMETER}/lib/ext/*.jar"), *glob.glob(f"{JMETER}/lib/*.jar"),
                     "/usr/share/java/bsh.jar"])
    plan = {"threads": THREADS, "loops": loops, "pace": f"{PACE * 60}.0", "seconds": seconds, "port": front.port(own),
            "target": front.TARGET}
    # --add-opens: what XStream looks into, of Java's own.
    command = ["java", "-Xmx512m", "--add-opens", "java.base/java.util=ALL-UNNAMED", "--add-opens",
               "java.base/java.lang=ALL-UNNAMED", "-Djava.awt.headless=true", f"-Djmeter.home={JMETER}", "-cp", jars,
               "bsh.Interpreter", ROOT / "scripts/jmeter/start.bsh", "-n", "-t", ROOT / "scripts/jmeter/burst.jmx",
               "-l", samples, "-j", own.log("jmeter"), *(f"-J{word}" for word in PROPERTIES),
               *(f"-J{name}={value}" for name, value in plan.items())]
    code, output = own.output_of(*command, stderr=subprocess.STDOUT)
    if code or not samples.exists() or not samples.stat().st_size:
        raise Failure(UNAVAILABLE, f"JMeter ended with {code}: {output[-2000:]}")


def percentile(ordered, fraction):
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0


def count(rows):
    """Responses by code, time-outs, and both for each second."""
    codes, seconds, elapsed = collections.Counter(), {}, []
    answered = timed_out = 0
    first = last = None
    for row in rows:
        begun, took, code = int(row["timeStamp"]), int(row["elapsed"]), row["responseCode"]
        first = begun if first is None else min(first, begun)
        last = max(last or 0, begun + took)
        late = bool(TIMED_OUT.search(code) or TIMED_OUT.search(row["responseMessage"]))
        good = row["success"] == "true"
        codes["time-out" if late else code] += 1
        answered += good
        timed_out += late
        second = seconds.setdefault(begun // 1000, {"sent": 0, "answered": 0, "elapsed": []})
        second["sent"] += 1
        second["answered"] += good
        if good:
            second["elapsed"].append(took)
            elapsed.append(took)
    elapsed.sort()
    start = min(seconds, default=0)
    span = ((last or 0) - (first or 0)) / 1000
    return {
        "sent": sum(codes.values()), "answered": answered, "timed_out": timed_out, "codes": dict(codes.most_common()),
        "seconds": round(span, 1), "rate": round(sum(codes.values()) / span) if span else 0,
        "median_rate": statistics.median(second["sent"] for second in seconds.values()) if seconds else 0,
        "elapsed_ms": {**{f"p{name}": percentile(elapsed, f) for name, f in (("50", 0.5), ("90", 0.9), ("99", 0.99))},
                       "max": elapsed[-1] if elapsed else 0},
        "per_second": [{"second": second - start, "sent": seconds[second]["sent"], "answered": seconds[second]["answered"],
                        "p99_ms": percentile(sorted(seconds[second]["elapsed"]), 0.99)} for second in sorted(seconds)]}


def measure(own, system, chosen):
    load = (chosen.loops + PACE - 1) // PACE + 1  # seconds; the threads begin within the first
    samples, planned = own.directory / f"{system}.jtl", THREADS * chosen.loops
    options.note(f"{system}: {planned} requests by JMeter, {THREADS * PACE} a second")
    if system == "direct":
        _, http = front.start_direct(own, chosen.handler)
        run_jmeter(own, samples, chosen.loops, load)
    else:
        _, http = front.start_queue(own, chosen.handler, chosen.pool)
        run_jmeter(own, samples, chosen.loops, load * 10)
    with open(samples, newline="", encoding="utf-8") as file:
        seen = count(csv.DictReader(file))
    status, _ = front.drain(http)
    done = status["totals"]["done"]
    return {"system": system, "planned": planned, "unsent": planned - seen["sent"], **seen,
            "confirmed": status["totals"].get("accepted"), "done": done, "unfinished": front.unfinished(status),
            "lost": seen["sent"] - seen["answered"] + max(0, seen["answered"] - done)}


def verdict(records):
    """A sentence, and whether the gateway answered everything with 202 and all of it is done."""
    gateway = next((r for r in records if r["system"] == "gateway"), None)
    if not gateway:
        return "The gateway was not asked.", True
    text = f"{gateway['codes'].get('202', 0):,} of {gateway['planned']:,} requests were answered with 202, {gateway['done']:,} done."
    good = (gateway["answered"] == gateway["codes"].get("202") == gateway["done"] == gateway["planned"]
            and gateway["lost"] == gateway["unfinished"] == 0)
    return (text, True) if good else (f"FAILED: {text}", False)


def table(made):
    records = made["records"]
    lines = [f"JMeter 2.13, 100 threads, {made['rate']:,} requests/s; {made['handler']} of work each; behind the gateway "
             f"a worker with {made['pool']}", "", f"{'':<26}" + "".join(f"{r['system']:>18}" for r in records)]
    lines += [f"{head:<26}" + "".join(f"{value(r):>18}" for r in records) for head, value in ROWS]
    codes = sorted({code for r in records for code in r["codes"]})
    lines += [f"{'  ' + code:<26.26}" + "".join(f"{r['codes'].get(code, 0):>18,}" for r in records) for code in codes]
    return [*lines, "", made["verdict"]]


def chart(made, path):
    """Requests answered and the p99 of answers, second by second."""
    records = made["records"]
    seconds = max(len(r["per_second"]) for r in records)
    script = ["set lmargin 10", "set rmargin 3", f"set xrange [0:{seconds}]", "set key top right horizontal samplen 1.5",
              f"set multiplot layout 2,1 title 'JMeter, 100 threads: {made['rate']:,} requests/s wanted, "
              f"{made['handler']} each, time-out 1 s'"]
    for r in records:
        script += [f"${r['system']} << EOD", *(f"{s['second'] + 0.5} {s['answered']} {max(s['p99_ms'], 0.5)}"
                                               for s in r["per_second"]), "EOD"]
    lines = [f"with linespoints pt 7 ps 0.35 lw 1.5 lc rgb '{COLOURS[r['system']]}' title '{r['system']}'" for r in records]
    script += ["set ylabel 'answered requests/s'", f"set yrange [0:{made['rate'] * 1.35}]",
               "plot " + ", ".join([f"{made['rate']} with lines dt 2 lc rgb '#444444' title 'wanted'",
                                    *(f"${r['system']} using 1:2 {line}" for r, line in zip(records, lines))]),
               "set ylabel 'p99 of answers, ms'", "set xlabel 's'", "set logscale y", "set yrange [0.5:5000]",
               "plot " + ", ".join(f"${r['system']} using 1:3 {line}" for r, line in zip(records, lines))]
    report.gnuplot(path, "1000,620", script)


def main():
    parser = options.Parser("jmeter.sh", __doc__, 5770, "P, P+1, P+10 and P+12",
                            "the gateway did not answer every request with 202, or a job is not done")
    parser.add_argument("--quick", action="store_true", help="150 loops: 15,000 requests")
    parser.add_number("--loops", 1, 100_000, None, "requests of each thread (3,000)")
    parser.add_names("--systems", ("direct", "gateway"), "only direct or only gateway")
    parser.add_argument("--pool", default="fixed:16", metavar="POOL", help="of the worker (fixed:16)")
    parser.add_argument("--handler", default="sleep:2ms", metavar="HANDLER", help="the work (sleep:2ms)")
    parser.add_svg()
    chosen = parser.parse()
    chosen.loops = chosen.loops or (150 if chosen.quick else 3000)
    check_ports(chosen.port_base, front.OFFSETS)
    installed = subprocess.run([ROOT / "scripts/setup.sh", "--jmeter"], check=False).returncode
    if installed:
        raise Failure(installed, "JMeter can't be installed")
    with Rig("jmeter", chosen, find_programs()) as own:
        records = [measure(own, system, chosen) for system in chosen.systems]
        own.stop_all()
    made = report.begin(chosen, rate=THREADS * PACE, handler=chosen.handler, pool=chosen.pool, records=records)
    made["verdict"], made["ok"] = verdict(records)
    if chosen.svg:
        chart(made, chosen.svg)
    report.show(chosen, made, table(made))
    return 0 if made["ok"] else 1


if __name__ == "__main__":
    options.run(main)
