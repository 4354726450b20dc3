"""One load on one pool, as a line of JSON: what the producer saw, and what it cost the worker."""
import argparse
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

SAMPLE_SECONDS = 0.1


class Peak(threading.Thread):
    """The most threads that a process has had."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.threads, self.over = Path(f"/proc/{pid}/status"), 0, threading.Event()

    def run(self):
        while not self.over.wait(SAMPLE_SECONDS):
            try:
                lines = self.path.read_text().splitlines()
            except OSError:
                return
            [count] = [int(line.split()[1]) for line in lines if line.startswith("Threads:")]
            self.threads = max(self.threads, count)

    def stop(self):
        self.over.set()
        self.join()
        return self.threads


def load(options, seconds):
    command = [f"{options.bin}/millrace-producer", "load", "--broker", options.broker, "--queue", "pools", "--rate",
               str(options.rate), "--duration", f"{seconds}s", "--size", "64", "--json", "--quiet", "--timeout", "20m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        signal.signal(signal.SIGTERM, lambda *_: (process.kill(), sys.exit(143)))
        output = process.communicate()[0]
    if process.returncode != 0:
        sys.exit(f"millrace-producer load ended with {process.returncode}: {output.decode()}")
    return json.loads(output)


def status(options):
    with urllib.request.urlopen(f"http://{options.status}/v1/status", timeout=10) as answer:
        return json.load(answer)


def main():
    parser = argparse.ArgumentParser()
    for name in ("bin", "broker", "status", "kind", "pool"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("worker-pid", "rate", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    load(options, max(1, options.seconds // 2))
    before = status(options)
    peak = Peak(options.worker_pid)
    peak.start()
    report = load(options, options.seconds)
    threads = peak.stop()
    after = status(options)
    [lane] = after["lanes"]

    def grown(read):
        return read(after["process"]) - read(before["process"])

    json.dump({
        "kind": options.kind, "pool": options.pool, "jobs": report["completed"], "jobs_per_second": round(report["rate"]),
        "latency_ms": report["latency_ms"], "wait_ms": lane["wait_ms"], "run_ms": lane["run_ms"],
        "drain_seconds": round(max(0.0, report["seconds"] - report["submit_seconds"]), 2), "peak_threads": threads,
        "context_switches": grown(lambda process: sum(process["switches"].values())),
        "cpu_seconds": round(grown(lambda process: process["cpu_ms"]) / 1000, 2), "max_rss_mib": round(after["process"]["max_rss_kib"] / 1024, 1),
        "sizes": lane["sizes"],
    }, sys.stdout)
    print()


if __name__ == "__main__":
    main()
