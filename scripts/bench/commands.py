"""The same command run by exec: handlers and by xargs -P: what a durable job costs beside a bare process.

Runs `cat >/dev/null` for each line of a file, in turns: by xargs -P, which gives the line as input to nobody, and as jobs of
an exec: handler, which are confirmed behind an fdatasync, leased, run with the line on stdin, and completed. Prints the
commands a second of both and their ratio (the median of the rounds)."""
import statistics
import subprocess
import time

import options
import report
from options import Failure
from rig import Rig, check_ports, find_programs

COMMAND = "cat >/dev/null"


def seconds_of(*command):
    began = time.monotonic()
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failure(1, f"{command[0]} ended with {done.returncode}")
    return time.monotonic() - began


def main():
    parser = options.Parser("compare-exec.sh", __doc__, 5870)
    parser.add_number("--jobs", 1, 1_000_000, 3000, "commands in a round")
    parser.add_number("--parallel", 1, 1000, 4, "commands at a time")
    parser.add_number("--rounds", 1, 100, 3, "rounds of both")
    chosen = parser.parse()
    check_ports(chosen.port_base)
    times = {"xargs": [], "exec": []}
    with Rig("compare-exec", chosen, find_programs()) as rig:
        lines = rig.directory / "lines"
        lines.write_text("".join(f"{number}\n" for number in range(1, chosen.jobs + 1)))
        rig.fresh(1, "--pool", f"fixed:{chosen.parallel}", "--queue", f"exec=exec:{COMMAND}")
        for number in range(chosen.rounds):
            options.note(f"round {number + 1} of {chosen.rounds}")
            times["xargs"].append(seconds_of("xargs", "-a", lines, "-P", chosen.parallel, "-I", "{}", "sh", "-c", COMMAND))
            times["exec"].append(seconds_of(rig.programs / "millrace-producer", "submit", "--broker", rig.frontend,
                                            "--queue", "exec", "--lines", lines, "--wait", "--quiet"))
        rig.stop_all()
    rates = {name: round(chosen.jobs / statistics.median(of_it)) for name, of_it in times.items()}
    ratio = round(rates["exec"] / rates["xargs"], 2)
    report.show(chosen, report.begin(chosen, jobs=chosen.jobs, parallel=chosen.parallel, rounds=chosen.rounds,
                                     xargs_per_second=rates["xargs"], exec_per_second=rates["exec"], ratio=ratio),
                [f"{chosen.jobs:,} commands, {chosen.parallel} at a time: xargs {rates['xargs']:,}/s, "
                 f"exec: {rates['exec']:,}/s, ratio {ratio}"])


if __name__ == "__main__":
    options.run(main)
