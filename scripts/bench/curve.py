"""What keys cost: the durable job loop with and without CURVE, interleaved in one run.

Runs N jobs of 256 bytes through a broker with --fsync always and two echo workers, with keys and without; prints the jobs
a second of each round, and the ratio of the medians."""
import statistics
import subprocess

import options
import report
from rig import Rig, check_ports, find_programs


def make_keys(rig):
    """(flags of the broker, flags of its clients)"""
    broker, peer, allow = (rig.directory / name for name in ("broker", "peer", "allow"))
    for words in (("keygen", broker), ("keygen", peer), ("keys", "add", "--allow", allow, f"{peer}.pub")):
        subprocess.run([rig.programs / "millrace-broker", *words], check=True, capture_output=True)
    return ("--curve-key", broker, "--curve-allow", allow), ("--curve-key", peer, "--curve-broker", f"{broker}.pub")


def main():
    parser = options.Parser("bench-curve.sh", __doc__, 25870)
    parser.add_number("--count", 1000, 100_000_000, 500_000, "jobs in a round")
    parser.add_number("--rounds", 1, 100, 3, "rounds of each")
    chosen = parser.parse()
    check_ports(chosen.port_base)
    rates = {"plain": [], "curve": []}
    with Rig("bench-curve", chosen, find_programs()) as rig:
        broker_keys, client_keys = make_keys(rig)
        for number in range(chosen.rounds):
            options.note(f"round {number + 1} of {chosen.rounds}")
            for name, server, client in (("plain", (), ()), ("curve", broker_keys, client_keys)):
                rig.fresh(2, "--queue", "bench=echo", *client, broker_flags=server)
                loaded = rig.load("--queue", "bench", "--rate", "max", "--count", chosen.count, "--quiet", *client)
                rates[name].append(round(loaded["rate"]))
        rig.stop_all()
    ratio = round(statistics.median(rates["curve"]) / statistics.median(rates["plain"]), 3)
    lines = [f"{name}  {' '.join(f'{rate:>11,}' for rate in rates[name])} jobs/s" for name in rates]
    report.show(chosen, report.begin(chosen, count=chosen.count, size=256, plain_jobs_per_s=rates["plain"],
                                     curve_jobs_per_s=rates["curve"], ratio=ratio), [*lines, f"ratio {ratio}"])


if __name__ == "__main__":
    options.run(main)
