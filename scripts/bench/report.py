"""What a benchmark prints: one JSON object, or tables under a line that says what was measured, when and where."""
import datetime
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path


def machine(directory):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    disk = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", directory], capture_output=True, text=True, check=False)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": platform.release(),
            "filesystem": disk.stdout.strip()}


def begin(options, **more):
    return {"command": options.command, "date": datetime.date.today().isoformat(), "machine": machine(options.dir), **more}


def show(options, report, lines):
    """`lines` are those of the tables."""
    if options.json:
        print(json.dumps(report))
        return
    host = report["machine"]
    print("\n".join([f"{report['command']}, {report['date']}, {host['cores']} × {host['cpu']}, {host['filesystem']}", *lines]))


def pairs(rows):
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name:<{width}}{value}" for name, value in rows]


def columns(names, records, name_of, wide, wide_name):
    """`names` are (head, format, value); a row for each record."""
    return [" ".join([f"{wide_name:<{wide[0]}}", *(f"{head:>{wide[1]}}" for head, _, _ in names)]),
            *(" ".join([f"{name_of(record):<{wide[0]}}",
                        *(f"{format(value(record), form):>{wide[1]}}" for _, form, value in names)]) for record in records)]


def gnuplot(path, size, lines):
    script = [f"set terminal svg size {size} font 'sans,12' background 'white'", f"set output '{path}'",
              "set grid ytics lc rgb '#dddddd'", "set border 3", "set tics nomirror", *lines]
    with tempfile.NamedTemporaryFile("w", suffix=".gnuplot") as file:
        file.write("\n".join(script) + "\n")
        file.flush()
        subprocess.run(["gnuplot", file.name], check=True)
