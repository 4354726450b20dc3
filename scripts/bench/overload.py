"""The same burst of HTTP requests without a queue and with one: what is answered, lost and done.

Sends 5,000 HTTP requests a second for 60 s, each with 2 ms of work and a time-out of 1 s, one after the other to
  direct   a server of one thread that does the work itself, without a queue
  single   a gateway and a broker, with a worker of one thread behind
  per-job  the same, with a worker that makes a thread for each job
  fixed    the same, with a pool of 16 threads
  auto     the same, with a pool that finds its size
and waits until all that was accepted is done. Requests are sent when they are due, whatever became of those before.
Prints what was offered, answered, timed out, lost and done, the time to an answer, how long the rest took once the load
was over, and the most threads. One thread takes ten minutes for its 300,000 jobs: a quarter of an hour in all."""
import time

import front
import options
import overload_picture
import report
from rig import PeakThreads, Rig, check_ports, find_programs

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
SEEN = ("offered", "answered", "timed_out", "refused", "unreachable", "cut", "statuses", "latency_ms", "lag_ms",
        "connections", "per_second")


def measure(own, system, chosen):
    if system == "direct":
        process, http = front.start_direct(own, chosen.handler)
    else:
        process, http = front.start_queue(own, chosen.handler, {"fixed": "fixed:16"}.get(system, system))
    peak = PeakThreads(own.pid(process))
    started = time.monotonic()
    # 1: not everything was answered, which is what we want to know.
    seen = own.report_of("millrace-http-load", "post", "--http", front.address(own), "--target", front.TARGET, "--rate",
                         chosen.rate, "--duration", f"{chosen.seconds}s", "--timeout", "1s", "--size", 64, good=(0, 1))
    status, finished = front.drain(http)
    done = status["totals"]["done"]
    return {"system": system, **{key: seen[key] for key in SEEN}, "done": done, "unfinished": front.unfinished(status),
            # Without an answer nobody knows of the work, and what was answered and never done is gone as well.
            "lost": seen["offered"] - seen["answered"] + max(0, seen["answered"] - done),
            "drain_seconds": round(max(0.0, finished - started - chosen.seconds), 1), "peak_threads": peak.stop()}


def verdict(records):
    """A sentence for each kind of system, and whether the queue kept what it accepted."""
    lines, kept = [], True
    for record in records:
        if record["system"] == "direct":
            share = record["lost"] / max(1, record["offered"])
            lines.append(f"Without a queue {record['lost']:,} of {record['offered']:,} requests were lost ({share:.0%}); "
                         f"{max(0, record['done'] - record['answered']):,} were run for nobody.")
        elif record["lost"]:
            kept = False
            lines.append(f"FAILED: {NAMES[record['system']]} lost {record['lost']:,} of {record['offered']:,}.")
    queued = [r for r in records if r["system"] != "direct"]
    if queued and kept:
        lines.append(f"Behind the queue nothing was lost: {sum(r['done'] for r in queued):,} of "
                     f"{sum(r['offered'] for r in queued):,} were answered and done.")
    return lines, kept


def table(made):
    return [f"{made['rate']:,} requests/s for {made['seconds']} s, {made['handler']} each, time-out 1 s", "",
            *report.columns(COLUMNS, made["records"], lambda record: NAMES[record["system"]], (24, 9), ""), "",
            *made["verdict"]]


def main():
    parser = options.Parser("overload-demo.sh", __doc__, 5770, "P, P+1, P+10 and P+12", "something was lost behind the queue")
    parser.add_argument("--quick", action="store_true", help="5 s instead of 60: two minutes in all")
    parser.add_number("--seconds", 1, 600, None, "seconds of load (60)")
    parser.add_number("--rate", 1, 100_000, 5000, "requests a second")
    parser.add_argument("--handler", default="sleep:2ms", metavar="HANDLER",
                        help="the work (sleep:2ms); burn:2ms computes instead of waiting")
    parser.add_names("--systems", NAMES, "only these, with commas between")
    parser.add_svg()
    chosen = parser.parse()
    chosen.seconds = chosen.seconds or (5 if chosen.quick else 60)
    check_ports(chosen.port_base, front.OFFSETS)
    records = []
    with Rig("overload", chosen, find_programs("--loader", "millrace-http-load")) as own:
        for system in chosen.systems:
            options.note(f"{system}: {chosen.rate * chosen.seconds} requests in {chosen.seconds} s")
            records.append(measure(own, system, chosen))
        own.stop_all()
    lines, kept = verdict(records)
    made = report.begin(chosen, rate=chosen.rate, seconds=chosen.seconds, handler=chosen.handler, records=records,
                        verdict=lines, ok=kept)
    if chosen.svg:
        overload_picture.draw(made, chosen.svg)
    report.show(chosen, made, table(made))
    return 0 if kept else 1


if __name__ == "__main__":
    options.run(main)
