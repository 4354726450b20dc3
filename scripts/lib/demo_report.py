"""The demo's end: what the producer, the broker's books, the audit and sha256sum say, side by side.
Exit 1 when they don't agree that nothing was lost."""
import argparse
import json
import sys
from pathlib import Path


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def read_code(path):
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def load_part(directory, expected):
    load, status, audit = (read_json(directory / f"{name}.json") for name in ("load", "status", "audit"))
    totals = status.get("totals", {})
    crashes, failures = totals.get("crashes", 0), totals.get("failures", 0)
    again = totals.get("attempts", 0) - totals.get("done", 0)
    report = {
        "expected": expected, "load": load, "load_exit": read_code(directory / "load.exit"),
        "audit": audit, "audit_exit": read_code(directory / "audit.exit"), "totals": totals,
        # Each further lease of a job follows one that ended without a completion.
        "leased_again": {"jobs": again, "worker_killed": crashes, "failed": failures,
                         "never_arrived_or_given_back": again - crashes - failures},
        "events": [{"second": int(second), "what": what} for second, what in
                   (line.split("\t", 1) for line in (directory / "events").read_text().splitlines())],
    }
    problems = []
    for key in ("sent", "confirmed", "completed"):
        if load.get(key) != expected:
            problems.append(f"{key}: {load.get(key)} instead of {expected}")
    for key in ("lost", "dead", "failed", "unknown", "rejected"):
        if load.get(key):
            problems.append(f"{load[key]} {key}")
    if (totals.get("accepted"), totals.get("done")) != (expected, expected):
        problems.append(f"the broker counts {totals.get('accepted')} accepted and {totals.get('done')} done")
    for name in ("load", "audit"):
        if report[f"{name}_exit"] != 0:
            problems.append(f"millrace-producer {name} ended with {report[f'{name}_exit']}")
    return report, problems


def files_part(directory, root):
    """The job's sequence is the number of the file's line."""
    names = (directory / "names").read_bytes().split(b"\0")[:-1]
    own = dict(reversed(entry.split(b"  ", 1)) for entry in (directory / "digests").read_bytes().split(b"\0")[:-1])
    told = {}
    for line in (directory / "results").read_text().splitlines():
        entry = json.loads(line)
        told[entry["seq"]] = entry.get("result", "").split(" ")[0] if entry["state"] == "done" else entry["state"]
    different = []
    for seq, name in enumerate(names, start=1):
        expected = own.get(name, b"").decode()
        if not expected or told.get(seq) != expected:
            different.append({"file": name.decode(errors="replace"), "job": told.get(seq, "no result"),
                              "sha256sum": expected or "no digest"})
    report = {"directory": root, "files": len(names), "equal": len(names) - len(different), "different": different[:10]}
    problems = []
    if different:
        first = different[0]
        problems.append(f"{len(different)} digests differ, the first for {first['file']}: the job says {first['job']}, "
                        f"sha256sum {first['sha256sum']}")
    if len(told) != len(names):
        problems.append(f"{len(told)} results for {len(names)} files")
    if (code := read_code(directory / "files.exit")) != 0:
        problems.append(f"millrace-producer submit ended with {code}")
    return report, problems


def milliseconds(value):
    return f"{value:,.1f} ms" if isinstance(value, (int, float)) else "?"


def table(report):
    load, again, files = report["load"], report["leased_again"], report["files"]
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
    lines.append(f"{'the books: ledger against journal':<46}{'balanced' if report['audit_exit'] == 0 else 'NO BALANCE':>12}")
    lines.append(f"{'files whose digest equals sha256sum' + chr(39) + 's':<46}{files['equal']:>5,} of {files['files']:,}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--expected", type=int, required=True)
    parser.add_argument("--files", required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report, problems = load_part(arguments.dir, arguments.expected)
    report["files"], more = files_part(arguments.dir, arguments.files)
    problems += more
    report.update(ok=not problems, problems=problems)
    if arguments.json:
        print(json.dumps(report))
    else:
        print(table(report))
        print()
        print("Nothing was lost, and the books balance." if not problems else "FAILED: " + "; ".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
