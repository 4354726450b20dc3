"""One HTTP load on one system, as a line of JSON: what the client saw, and what became of the work."""
import argparse
import json
import signal
import subprocess
import sys
import time
import urllib.request

from pools_measure import Peak

TIMEOUT = "1s"
POLL_SECONDS = 0.1
# A server that is overloaded answers when it has run what waits in front.
STATUS_SECONDS = 60
STILL_SECONDS = 30  # without a job done: then no more will be


def load(options):
    command = [f"{options.bin}/millrace-http-load", "post", "--http", options.front, "--target", options.target, "--rate",
               str(options.rate), "--duration", f"{options.seconds}s", "--timeout", TIMEOUT, "--size", "64", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        signal.signal(signal.SIGTERM, lambda *_: (process.kill(), sys.exit(143)))
        output = process.communicate()[0]
    if process.returncode not in (0, 1):  # 1: not everything was answered, which is what we want to know
        sys.exit(f"millrace-http-load ended with {process.returncode}: {output.decode()}")
    return json.loads(output)


def status(options):
    with urllib.request.urlopen(f"http://{options.status}/v1/status", timeout=STATUS_SECONDS) as answer:
        return json.load(answer)


def unfinished(report):
    """Jobs that a broker still has; a direct server has none that it knows of."""
    jobs = report.get("jobs", {})
    return sum(jobs.get(state, 0) for state in ("scheduled", "ready", "leased", "retry_wait"))


def drain(options):
    """The totals when nothing moves any more, and when the last job was done."""
    done, changed = -1, time.monotonic()
    while True:
        report = status(options)
        now = time.monotonic()
        if report["totals"]["done"] != done:
            done, changed = report["totals"]["done"], now
        elif unfinished(report) == 0 or now - changed > STILL_SECONDS:
            return report, changed
        time.sleep(POLL_SECONDS)


def main():
    parser = argparse.ArgumentParser()
    for name in ("bin", "system", "front", "target", "status"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("pid", "rate", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    peak = Peak(options.pid)
    peak.start()
    started = time.monotonic()
    seen = load(options)
    report, finished = drain(options)
    totals = report["totals"]
    json.dump({
        "system": options.system, **{key: seen[key] for key in (
            "offered", "answered", "timed_out", "refused", "unreachable", "cut", "statuses", "latency_ms", "lag_ms",
            "connections", "per_second")},
        "done": totals["done"], "unfinished": unfinished(report),
        # Without an answer nobody knows of the work, and what was answered and never done is gone as well.
        "lost": seen["offered"] - seen["answered"] + max(0, seen["answered"] - totals["done"]),
        "drain_seconds": round(max(0.0, finished - started - options.seconds), 1), "peak_threads": peak.stop(),
    }, sys.stdout)
    print()


if __name__ == "__main__":
    main()
