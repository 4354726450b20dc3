"""Runs clang-tidy on the C++ sources of a build, and remembers which were clean.

Usage: tidy.py [--build DIR] [--seconds N]

Files that changed since the base are always checked; what did not change, for --seconds N (0) at most, so that
a header included everywhere does not cost half an hour at once. The base is where this branch left main; on
main itself, the commit that was last checked to the end. Results are stored beside ccache's, each under the hash
of everything that clang-tidy read: the source, its headers, its command, the configuration.

Exit: 0 nothing found; 1 something found; 2 clang-tidy could not run.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOR_CLANG = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-error"]
DAYS_KEPT = 60


def run(*command):
    """Its output; nothing if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def cache_directory():
    ccache = run("ccache", "--get-config", "cache_dir")
    return pathlib.Path(ccache or pathlib.Path.home() / ".cache") / "clang-tidy"


class Hashes:
    """Of contents, each file read once."""

    def __init__(self):
        self.known = {}

    def of(self, path):
        if path not in self.known:
            try:
                self.known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                self.known[path] = "none"
        return self.known[path]


class Unit:
    """One source file with what it includes."""

    def __init__(self, build, entry, headers):
        self.build = build
        self.path = pathlib.Path(entry["file"])
        self.name = str(self.path.relative_to(ROOT))
        self.command = entry["command"].replace(str(ROOT), "")
        self.headers = headers

    def key(self, setting, hashes):
        whole = hashlib.sha256(setting.encode())
        whole.update(self.command.encode())
        for path in [self.path, *self.headers]:
            whole.update(str(path).removeprefix(str(ROOT)).encode())
            whole.update(hashes.of(path).encode())
        return whole.hexdigest()

    def check(self):
        command = ["nice", "clang-tidy", "-p", str(self.build), "--quiet", *FOR_CLANG, str(self.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode == 0, done.stdout if done.stdout else done.stderr


def headers_by_object(build):
    """What ninja knows of each object's headers since it was compiled."""
    headers, current = {}, []
    for line in run("ninja", "-C", str(build), "-t", "deps").splitlines():
        if found := re.match(r"(\S+): #deps \d+.*\((VALID|STALE)\)", line):
            current = headers.setdefault(found[1], [])
        elif line.startswith("    "):
            current.append(pathlib.Path(os.path.normpath(build / line.strip())))
    return headers


def units_of(build):
    """Each source once, by its name: some are compiled into several programs."""
    headers, units = headers_by_object(build), {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        known = headers.get(entry["command"].partition(" -o ")[2].split(" ")[0])
        path = pathlib.Path(entry["file"])
        if known and path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "build"):
            unit = Unit(build, entry, sorted(set(known) - {path}))
            units.setdefault(unit.name, unit)
    return units


def base_commit(cache):
    here = run("git", "rev-parse", "HEAD")
    base = run("git", "merge-base", "HEAD", "main") or run("git", "merge-base", "HEAD", "origin/main")
    if base and base != here:
        return base
    try:
        last = (cache / "checked-commit").read_text(encoding="utf-8")
    except OSError:
        return run("git", "rev-parse", "HEAD^")
    return last if run("git", "cat-file", "-t", last) == "commit" else run("git", "rev-parse", "HEAD^")


def changed_units(units, base):
    """The changed sources, and for each changed header the source of its name, or else one that includes it."""
    names = run("git", "diff", "--name-only", base).splitlines() if base else []
    names += run("git", "ls-files", "--others", "--exclude-standard").splitlines()
    changed = {name for name in names if name in units}
    for name in names:
        if not name.endswith(".h"):
            continue
        own, header = name.removesuffix(".h") + ".cpp", ROOT / name
        users = [unit.name for unit in units.values() if header in unit.headers]
        if users and not changed.intersection(users):
            changed.add(own if own in users else min(users))
    return changed


def rotated(names, cache):
    """In alphabetical order, from where the last run ended."""
    try:
        first = (cache / "next").read_text(encoding="utf-8")
    except OSError:
        first = ""
    return sorted(name for name in names if name >= first) + sorted(name for name in names if name < first)


class Run:
    def __init__(self, units, cache, seconds):
        self.units, self.cache = units, cache
        self.deadline = time.monotonic() + seconds
        version, hashes = run("clang-tidy", "--version"), Hashes()
        setting = "\n".join([version, hashes.of(ROOT / ".clang-tidy"), *FOR_CLANG])
        self.keys = {name: unit.key(setting, hashes) for name, unit in units.items()}
        self.bad, self.checked, self.left = 0, 0, []

    def is_clean(self, name):
        return (self.cache / self.keys[name]).exists()

    def check(self, name, always):
        if not always and time.monotonic() > self.deadline:
            self.left.append(name)
            return
        clean, text = self.units[name].check()
        self.checked += 1
        if clean:
            (self.cache / self.keys[name]).touch()
        else:
            self.bad += 1
            print(text, flush=True)

    def check_all(self, changed):
        todo = [name for name in self.units if not self.is_clean(name)]
        others = rotated([name for name in todo if name not in changed], self.cache)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            first = [pool.submit(self.check, name, True) for name in todo if name in changed]
            for each in first + [pool.submit(self.check, name, False) for name in others]:
                each.result()
        left = [name for name in others if name in self.left]
        (self.cache / "next").write_text(left[0] if left else "", encoding="utf-8")
        print(f"clang-tidy: {len(self.units)} files: {self.checked} checked, {self.bad} of them with findings; "
              f"{len(self.units) - len(todo)} known to be clean"
              + (f"; {len(left)} that did not change left unchecked: the next run begins with them" if left else ""),
              flush=True)


def forget_old(cache):
    oldest = time.time() - DAYS_KEPT * 86400
    for path in cache.iterdir():
        if len(path.name) == 64 and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", type=pathlib.Path)
    parser.add_argument("--seconds", default=0, type=float)
    options = parser.parse_args()
    build = (ROOT / options.build).resolve()
    units = units_of(build)
    if not units:
        print(f"tidy.py: {build} holds nothing that was built with ninja", file=sys.stderr)
        return 2
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    forget_old(cache)
    all_files = Run(units, cache, options.seconds)
    all_files.check_all(changed_units(units, base_commit(cache)))
    if not all_files.bad and not run("git", "status", "--porcelain", "--untracked-files=no"):
        (cache / "checked-commit").write_text(run("git", "rev-parse", "HEAD"), encoding="utf-8")
    return 1 if all_files.bad else 0


if __name__ == "__main__":
    sys.exit(main())
