"""JMeter's log of samples beside what became of the jobs, as a line of JSON."""
import argparse
import collections
import csv
import json
import re
import statistics
import sys

from overload_measure import drain, unfinished

TIMED_OUT = re.compile("Timeout|Timed ?out", re.IGNORECASE)


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


def main():
    parser = argparse.ArgumentParser()
    for name in ("system", "samples", "status"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--planned", type=int, required=True)
    options = parser.parse_args()
    with open(options.samples, newline="", encoding="utf-8") as file:
        seen = count(csv.DictReader(file))
    report, _ = drain(options)
    done = report["totals"]["done"]
    json.dump({"system": options.system, "planned": options.planned, "unsent": options.planned - seen["sent"], **seen,
               "confirmed": report["totals"].get("accepted"), "done": done, "unfinished": unfinished(report),
               "lost": seen["sent"] - seen["answered"] + max(0, seen["answered"] - done)}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
