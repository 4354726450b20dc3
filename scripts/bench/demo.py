"""The main job, with failures: a load for a durable broker and three workers, while a worker and the broker are killed.

Starts a broker and three workers on this machine, and sends 300,000 jobs of 2 ms work at 5,000 a second. At one third a
worker is killed with SIGKILL, at half the broker is, and started again on its journal; at two thirds a fourth worker
joins. Then each regular file below /usr/include goes through a sha256 job, and each digest is compared with sha256sum's
own. Nothing may be lost."""
import json
import os
import subprocess
import time
from pathlib import Path

import options
import report
import rig
from options import UNAVAILABLE, Failure
from rig import Rig, check_ports, find_programs, wait_until

RATE = 5000
QUICK_FILES = 500
# Twice what 5,000 jobs of 2 ms a second keep busy, so that two of three workers still suffice. The file's name may begin or
# end with anything but hold no line feed.
WORKER = ("--pool", "fixed:10", "--queue", "demo=sleep:2ms", "--queue",
          'files=exec:IFS= read -r path || :; exec sha256sum <"$path"', "--drain-timeout", "30s")


class Load:
    """The load in the background, and what happens meanwhile."""

    def __init__(self, own, duration):
        self.own, self.duration, self.events, self.began = own, duration, [], time.monotonic()
        command = [own.programs / "millrace-producer", "load", "--broker", own.frontend, "--queue", "demo", "--rate", RATE,
                   "--duration", f"{duration}s", "--size", 256, "--verify", "--ledger", own.directory / "ledger", "--json"]
        with open(own.directory / "load.json", "wb") as output:
            own.processes["load"] = subprocess.Popen([str(word) for word in command], stdout=output)

    def accepted(self):
        try:
            return rig.status(self.own.http)["totals"]["accepted"]
        except OSError:
            return 0

    def event(self, what):
        second = int(time.monotonic() - self.began)
        options.note(f"{second:3} s  {what}")
        self.events.append({"second": second, "what": what})

    def await_accepted(self, number):
        seconds = 2 * self.duration + 60
        if not wait_until(lambda: self.accepted() >= number or not self.own.running("load"), seconds):
            raise Failure(1, f"the broker has accepted only {self.accepted()} jobs of {number} in {seconds} s")

    def end(self):
        """(report, exit code)"""
        code = self.own.processes.pop("load").wait()
        return read_json((self.own.directory / "load.json").read_text()), code


def read_json(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def settled(own):
    """Nothing waits or runs."""
    jobs = rig.status(own.http)["jobs"]
    return not any(jobs[state] for state in ("ready", "leased", "retry_wait"))


def run_load(own, duration):
    total = RATE * duration
    options.note(f"{total} jobs of 2 ms work, {RATE} a second for {duration} s, three workers")
    load = Load(own, duration)
    load.await_accepted(total // 3)
    own.kill("worker-1")
    load.event(f"worker-1 killed with SIGKILL, {load.accepted()} jobs accepted")
    load.await_accepted(total // 2)
    accepted = load.accepted()
    own.kill("broker")
    load.event(f"broker killed with SIGKILL, {accepted} jobs accepted")
    own.start_broker()
    load.event("broker serves again on its journal")
    load.await_accepted(2 * total // 3)
    own.start_worker("worker-4", *WORKER)
    load.event(f"worker-4 joins, {load.accepted()} jobs accepted")
    loaded, code = load.end()
    wait_until(lambda: settled(own), 60)
    status = rig.status(own.http)
    audit_code, audit = own.output_of(own.programs / "millrace-producer", "audit", "--broker", own.frontend, "--ledger",
                                      own.directory / "ledger", "--json")
    return {"expected": total, "load": loaded, "load_exit": code, "status": status, "audit": read_json(audit),
            "audit_exit": audit_code, "events": load.events}


def readable_files(root, most):
    """A line can't hold a name with a line feed."""
    names = sorted(os.path.join(path, name) for path, _, names in os.walk(root) for name in names)
    return [name for name in names
            if "\n" not in name and Path(name).is_file() and not Path(name).is_symlink() and os.access(name, os.R_OK)][:most]


def run_files(own, root, most):
    names = readable_files(root, most)
    if not names:
        raise Failure(UNAVAILABLE, f"there is no readable file below {root}; name another directory: --files DIR")
    lines, results = own.directory / "lines", own.directory / "results"
    lines.write_bytes(b"".join(os.fsencode(name) + b"\n" for name in names))
    options.note(f"{len(names)} files below {root}, a sha256 job for each")
    code, _ = own.output_of(own.programs / "millrace-producer", "submit", "--broker", own.frontend, "--queue", "files",
                            "--lines", lines, "--wait", "--results", results)
    options.note("comparing with sha256sum's own digests")
    done = subprocess.run(["xargs", "-0", "sha256sum", "-z", "--"], input="\0".join(names), capture_output=True, text=True,
                          errors="surrogateescape", check=False)
    digests = dict(reversed(entry.split("  ", 1)) for entry in done.stdout.split("\0")[:-1])
    return {"directory": str(root), "names": names, "digests": digests, "files_exit": code,
            "results": [json.loads(line) for line in results.read_text().splitlines()]}


def load_part(seen):
    """(report, what shows that something was lost)"""
    load, totals = seen["load"], seen["status"].get("totals", {})
    crashes, failures = totals.get("crashes", 0), totals.get("failures", 0)
    again = totals.get("attempts", 0) - totals.get("done", 0)
    made = {**{key: seen[key] for key in ("expected", "load", "load_exit", "audit", "audit_exit", "events")},
            "totals": totals,
            # Each further lease of a job follows one that ended without a completion.
            "leased_again": {"jobs": again, "worker_killed": crashes, "failed": failures,
                             "never_arrived_or_given_back": again - crashes - failures}}
    expected = seen["expected"]
    problems = [f"{key}: {load.get(key)} instead of {expected}" for key in ("sent", "confirmed", "completed")
                if load.get(key) != expected]
    problems += [f"{load[key]} {key}" for key in ("lost", "dead", "failed", "unknown", "rejected") if load.get(key)]
    if (totals.get("accepted"), totals.get("done")) != (expected, expected):
        problems.append(f"the broker counts {totals.get('accepted')} accepted and {totals.get('done')} done")
    problems += [f"millrace-producer {name} ended with {seen[f'{name}_exit']}" for name in ("load", "audit")
                 if seen[f"{name}_exit"] != 0]
    return made, problems


def files_part(seen):
    """As load_part. A job's sequence is the number of the file's line."""
    names, digests = seen["names"], seen["digests"]
    reported = {result["seq"]: result.get("result", "").split(" ")[0] if result["state"] == "done" else result["state"]
                for result in seen["results"]}
    different = [{"file": name, "job": reported.get(seq, "no result"), "sha256sum": digests.get(name) or "no digest"}
                 for seq, name in enumerate(names, start=1)
                 if not digests.get(name) or reported.get(seq) != digests[name]]
    made = {"directory": seen["directory"], "files": len(names), "equal": len(names) - len(different),
            "different": different[:10]}
    problems = []
    if different:
        first = different[0]
        problems.append(f"{len(different)} digests differ, the first for {first['file']}: the job says {first['job']}, "
                        f"sha256sum {first['sha256sum']}")
    if len(reported) != len(names):
        problems.append(f"{len(reported)} results for {len(names)} files")
    if seen["files_exit"] != 0:
        problems.append(f"millrace-producer submit ended with {seen['files_exit']}")
    return made, problems


def verdict(seen):
    made, problems = load_part(seen)
    made["files"], more = files_part(seen)
    return {**made, "ok": not problems and not more, "problems": problems + more}


def milliseconds(value):
    return f"{value:,.1f} ms" if isinstance(value, (int, float)) else "?"


def table(made):
    load, again, files = made["load"], made["leased_again"], made["files"]
    rows = [("sent", load.get("sent")), ("confirmed", load.get("confirmed")), ("done", load.get("completed")),
            ("lost", load.get("lost")),
            ("executed more than once, at most", again["jobs"]),
            ("  their worker was killed", again["worker_killed"]),
            ("  given back, or never arrived at a worker", again["never_arrived_or_given_back"]),
            ("  the handler failed", again["failed"])]
    lines = [f"{name:<46}{value:>12,}" if isinstance(value, int) else f"{name:<46}{'?':>12}" for name, value in rows]
    for name, key in (("confirmed after, p50 / p99", "confirm_ms"), ("done after, p50 / p99", "latency_ms")):
        times = load.get(key, {})
        lines.append(f"{name:<36}{milliseconds(times.get('p50')):>11}{milliseconds(times.get('p99')):>11}")
    lines.append(f"{'ledger against journal':<46}{'reconciled' if made['audit_exit'] == 0 else 'DIFFERENT':>12}")
    lines.append(f"{'files whose digest equals that of sha256sum':<46}{files['equal']:>5,} of {files['files']:,}")
    return [*lines, "", "Nothing was lost: the totals reconcile." if made["ok"] else "FAILED: " + "; ".join(made["problems"])]


def main():
    parser = options.Parser("demo.sh", __doc__, 5770, failed="something was lost, or the totals don't reconcile")
    parser.add_argument("--quick", action="store_true", help=f"10 s instead of 60, and at most {QUICK_FILES} files")
    parser.add_argument("--files", type=options.directory, default=Path("/usr/include"), metavar="DIR",
                        help="these files (/usr/include)")
    chosen = parser.parse()
    check_ports(chosen.port_base)
    with Rig("demo", chosen, find_programs()) as own:
        own.fresh(3, *WORKER)
        seen = run_load(own, 10 if chosen.quick else 60)
        seen.update(run_files(own, chosen.files, QUICK_FILES if chosen.quick else None))
        own.stop_all()
    made = verdict(seen)
    report.show(chosen, {**report.begin(chosen), **made}, ["", *table(made)])
    return 0 if made["ok"] else 1


if __name__ == "__main__":
    options.run(main)
