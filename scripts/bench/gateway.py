"""Durable POSTs through the gateway, beside the same HTTP code without a broker behind it.

Lets wrk (one thread) post 256 bytes over 64 and over 2,000 kept connections:
  - to an HTTP server that answers 202 at once: the gateway's own, without a broker behind it
  - to the gateway, which answers 202 when the broker has synced the job (--fsync always)
The two take turns, and the median round counts. No worker runs: the jobs stay queued, so each round begins with an empty
journal."""
import json
import os
import resource
import subprocess

import options
import report
import rig
from options import ROOT, UNAVAILABLE, Failure
from rig import Rig, check_ports, find_programs

CONNECTIONS = (64, 2000)
LABELS = {"baseline": "202 at once, no broker", "gateway": "202 when synced"}


def raise_file_limit():
    """A kept connection is a file, here and in the servers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 4096:
        raise Failure(UNAVAILABLE, "2,000 connections need more open files than 'ulimit -n' allows")


def start_servers(own):
    own.fresh(0)
    addresses = {"gateway": f"127.0.0.1:{own.base + 20}", "baseline": f"127.0.0.1:{own.base + 21}"}
    own.start("gateway", "millrace-producer", "gateway", "--broker", own.frontend, "--http", addresses["gateway"],
              "--max-connections", 2500)
    own.start("baseline", "http_baseline", own.base + 21, 2500)
    own.await_process("gateway", lambda: rig.answers(addresses["gateway"]), "the gateway is not ready")
    own.await_process("baseline", lambda: rig.in_use(own.base + 21), "the baseline does not answer")
    return addresses


def post(address, connections, seconds):
    """What wrk has counted, by wrk_post.lua."""
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s",
                           ROOT / "scripts/bench/wrk_post.lua", f"http://{address}/v1/queues/bench/jobs"],
                          capture_output=True, text=True, check=False)
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if done.returncode or not lines:
        raise Failure(UNAVAILABLE, f"wrk failed: {done.stdout}{done.stderr}")
    run = json.loads(lines[0])
    return {**run, "rate": run["requests"] * 1e6 / run["microseconds"]}


def median_of(runs):
    """The figures of the round whose rate is the median."""
    run = sorted(runs, key=lambda run: run["rate"])[(len(runs) - 1) // 2]
    return {"requests_per_second": round(run["rate"]), "p50_ms": run["p50_us"] / 1000, "p99_ms": run["p99_us"] / 1000,
            "max_ms": run["max_us"] / 1000, "not_202": sum(run["others"] for run in runs),
            "errors": sum(run["errors"] for run in runs), "rates": [round(run["rate"]) for run in runs]}


def measure(own, connections, chosen, broker):
    runs = {"baseline": [], "gateway": []}
    for number in range(chosen.rounds):
        addresses = start_servers(own)
        for name, of_it in runs.items():
            options.note(f"{name}, {connections} connections, round {number + 1}")
            of_it.append(post(addresses[name], connections, chosen.seconds))
        status = rig.status(own.http)
        broker["accepted"] += status["totals"]["accepted"]
        broker["commits"] += status["journal"]["commits"]
    baseline, gateway = (median_of(of_it) for of_it in runs.values())
    percent = round(100 * gateway["requests_per_second"] / baseline["requests_per_second"], 1)
    return {"baseline": baseline, "gateway": gateway, "percent": percent}


def table(made):
    lines = ["", f"{'kept connections':>16}  {'':<24}{'POST/s':>10}{'p50':>11}{'p99':>11}{'max':>11}"]
    for connections, pair in made["connections"].items():
        for name, label in LABELS.items():
            run = pair[name]
            lines.append(f"{connections:>16}  {label:<24}{run['requests_per_second']:>10,}"
                         + "".join(f"{run[key]:>8.2f} ms" for key in ("p50_ms", "p99_ms", "max_ms")))
        lines.append(f"{'':>16}  {'gateway / no broker':<24}{pair['percent']:>9} %")
    broker = made["broker"]
    return [*lines, "", f"{broker['accepted']:,} jobs durable in {broker['commits']:,} commits"]


def programs():
    """With the baseline, which is built with the tests, and wrk."""
    subprocess.run([ROOT / "scripts/setup.sh", "--bench"], check=True)
    found = find_programs()
    if not os.environ.get("MILLRACE_BIN"):
        subprocess.run(["cmake", "--build", ROOT / "build/release", "--target", "http_baseline"], stdout=2, check=True)
    if not os.access(found / "http_baseline", os.X_OK):
        raise Failure(UNAVAILABLE, f"there is no http_baseline in {found}")
    return found


def main():
    parser = options.Parser("bench-gateway.sh", __doc__, 5670, "P, P+1, P+10, P+20 and P+21",
                            "a request was not answered with 202")
    parser.add_number("--seconds", 1, 600, 5, "seconds of each measurement")
    parser.add_number("--rounds", 1, 99, 3, "rounds of each pair")
    chosen = parser.parse()
    check_ports(chosen.port_base, (0, 1, 10, 20, 21))
    raise_file_limit()
    broker = {"accepted": 0, "commits": 0}
    with Rig("bench-gateway", chosen, programs()) as own:
        by_connections = {str(connections): measure(own, connections, chosen, broker) for connections in CONNECTIONS}
        own.stop_all()
    made = report.begin(chosen, seconds=chosen.seconds, rounds=chosen.rounds, connections=by_connections, broker=broker)
    report.show(chosen, made, table(made))
    bad = sum(pair[name][key] for pair in by_connections.values() for name in LABELS for key in ("not_202", "errors"))
    if bad:
        raise Failure(1, f"{bad} requests were not answered with 202")


if __name__ == "__main__":
    options.run(main)
