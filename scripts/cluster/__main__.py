"""cluster.sh: flags and exit codes. The work is in cluster.py."""
import argparse
import copy
import fcntl
import json
import os
import shlex
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

try:
    import hosts_file
    import plan
    import report
    from bundle import Broken
    from cluster import Cluster
    from progress import Progress
    from remote import Remote
except ModuleNotFoundError as missing:
    sys.exit(f"cluster.sh: needs Debian's python3-clustershell; scripts/setup.sh installs it ({missing})")

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("up", "scale", "status", "logs", "drain", "rolling-restart", "down")
DESCRIPTION = """Run brokers, workers and gateways in the background: on the hosts of a file, over ssh, or, without -f, one broker and
some workers on this machine, on loopback and without keys."""
EXIT = """Exit codes: 0 success; 1 a host failed or can't be reached (the command was completed on the others), or status found a
program that is not running; 64 usage; 65 error in the hosts file, or damaged settings; 69 no cluster, or none of its
brokers, is running; 73 DIR can't be created; 74 a file can't be read or written; 75 another cluster.sh is running; 78 keys.

With MILLRACE_BIN=DIR in the environment, the programs in DIR are used, and nothing is built."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Broken(64, f"{message}; see scripts/cluster.sh --help")


def parse(arguments):
    parser = Parser(prog="scripts/cluster.sh", epilog=EXIT, formatter_class=argparse.RawDescriptionHelpFormatter,
                    description=DESCRIPTION)
    parser.add_argument("-f", "--hosts", metavar="HOSTS", help="the hosts file (docs/OPERATIONS.md, section 10)")
    parser.add_argument("command", choices=COMMANDS, help="what to do")
    parser.add_argument("arguments", nargs="*", metavar="N|HOST|label=L",
                        help="scale: total number of workers; logs, drain, status: the hosts (all)")
    parser.add_argument("--dir", metavar="DIR", help="directory for keys and settings (build/hosts/NAME of the hosts "
                        "file); without -f, for everything (build/cluster)")
    parser.add_argument("--remote-dir", metavar="DIR", default=".millrace",
                        help="directory on the hosts, relative to the home directory (.millrace)")
    parser.add_argument("--ssh", metavar="COMMAND", default=os.environ.get("MILLRACE_SSH", "ssh"),
                        help="ssh command with your own options, such as 'ssh -F FILE' (ssh)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and their hosts, run nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="logs: number of lines of each log (20)")
    parser.add_argument("--unit", default="", metavar="KIND", help="logs: only broker, worker or gateway")
    up = parser.add_argument_group("flags of up, remembered in DIR")
    up.add_argument("--workers", type=int, metavar="N",
                    help="total number of workers (one on each worker host; without -f 3)")
    up.add_argument("--queue", action="append", metavar="NAME=HANDLER",
                    help="a queue of the workers and its handler (default=echo); may be repeated")
    up.add_argument("--pool", metavar="POOL", help="pool of the workers on hosts without threads/ in the file")
    up.add_argument("--port-base", type=int, metavar="P", help="brokers listen on P, P+1, P+10 (5570)")
    up.add_argument("--config", action="append", metavar="ROLE=FILE",
                    help="a TOML file for the broker, worker or gateway program")
    up.add_argument("--insecure", action=argparse.BooleanOptionalAction, default=None,
                    help="run without keys, for closed networks only")
    up.add_argument("--preset", default="release", help="build preset to copy (release)")
    return parser.parse_intermixed_args(arguments)


def check(options):
    if options.command == "scale":
        if len(options.arguments) != 1 or not options.arguments[0].isdigit() or int(options.arguments[0]) > 10000:
            raise Broken(64, "scale needs the number of workers, 0 to 10000")
    elif options.arguments and options.command not in ("logs", "drain", "status"):
        raise Broken(64, f"unexpected argument '{options.arguments[0]}' of {options.command}")
    for flag in ("dir", "remote_dir", "ssh"):
        if getattr(options, flag) is not None and not getattr(options, flag).strip():
            raise Broken(64, f"--{flag.replace('_', '-')} is empty")
    try:
        shlex.split(options.ssh)
    except ValueError as error:
        raise Broken(64, f"--ssh: {error}") from None
    if options.workers is not None and not 0 <= options.workers <= 10000:
        raise Broken(64, f"--workers takes 0 to 10000, not {options.workers}")
    if options.port_base is not None and not 1 <= options.port_base <= 65000:
        raise Broken(64, f"--port-base takes 1 to 65000, not {options.port_base}")
    for queue in options.queue or []:
        if "=" not in queue:
            raise Broken(64, f"--queue: '{queue}' is not NAME=HANDLER")
    for entry in options.config or []:
        role, _, file = entry.partition("=")
        if role not in hosts_file.ROLES or not os.path.isfile(file):
            raise Broken(64, f"--config: '{entry}' is not broker=FILE, worker=FILE or gateway=FILE")


def updated(settings, options):
    """The settings with the flags of `up`."""
    for name in ("workers", "pool", "port_base", "insecure"):
        if getattr(options, name) is not None:
            setattr(settings, name, getattr(options, name))
    settings.queues = options.queue or settings.queues
    for entry in options.config or []:
        role, _, file = entry.partition("=")
        settings.config[role] = os.path.abspath(file)
    settings.drained = []
    return settings


def read_hosts(path):
    try:
        return hosts_file.parse(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise Broken(74, f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Broken(65, f"{path}:{line}: not valid UTF-8") from None


def programs(options, build):
    """The directory of the programs, built unless MILLRACE_BIN names it."""
    named = os.environ.get("MILLRACE_BIN")
    if build and not named and not options.dry_run:
        done = subprocess.run([ROOT / "scripts/build.sh", options.preset, "--programs"], stdout=sys.stderr, check=False)
        if done.returncode:
            raise Broken(done.returncode, "the programs could not be built")
    return Path(named) if named else ROOT / "build" / options.preset / "bin"


def open_lock(directory):
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(directory / ".lock", "w", encoding="ascii")
    except OSError as error:
        raise Broken(73, f"can't write to {directory}: {error.strerror}; choose another directory with --dir") from None


def lock(directory):
    """One command at a time for a cluster; the lock ends with this process."""
    file = open_lock(directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Broken(75, f"another cluster.sh is using {directory}; try again when it has finished") from None
    return file


@dataclass
class Place:
    """Which cluster it is, and where it keeps its files."""
    hosts: list
    name: str
    directory: Path  # keys and settings
    remote: str  # of the hosts
    settings: plan.Settings  # before the flags of `up`


def place(options):
    if options.hosts:
        name = Path(options.hosts).stem
        return Place(read_hosts(options.hosts), name, Path(options.dir or ROOT / "build/hosts" / name).absolute(),
                     f"{options.remote_dir.rstrip('/')}/{name}", plan.Settings())
    directory = Path(options.dir or ROOT / "build/cluster").absolute()
    here = hosts_file.Host("", roles=["broker", "worker"], address="127.0.0.1")
    return Place([here], f"local-{zlib.crc32(bytes(directory)):08x}", directory, str(directory),
                 plan.Settings(workers=3, pool="fixed:4", insecure=True))


def perform(options):
    check(options)
    cluster_place = place(options)
    directory = cluster_place.directory
    settings = plan.Settings.load(directory / "settings.json")
    if settings is None and options.command != "up" and not (options.dry_run or options.command == "down"):
        again = f"-f {options.hosts} up" if options.hosts else "up"
        raise Broken(69, f"{directory} has no cluster; start one: scripts/cluster.sh {again}")
    before = copy.deepcopy(settings)
    settings = settings or cluster_place.settings
    if options.command == "up":
        updated(settings, options)
    progress = Progress()
    remote = Remote(cluster_place.remote, cluster_place.name, options.ssh, options.dry_run, progress)
    changes = options.command in ("up", "scale", "rolling-restart")
    cluster = Cluster(cluster_place.hosts, settings, directory, remote, progress, programs(options, changes), before)
    if options.dry_run:
        act(cluster, options)
        if options.json:
            print(json.dumps({"command": options.command, "dry_run": True, "steps": remote.shown}))
        else:
            report.show_steps(remote.shown)
        return 0
    held = lock(directory) if options.command not in ("status", "logs") else None
    try:
        result, code = act(cluster, options)
    finally:
        if held:
            held.close()
    if options.json:
        print(json.dumps(result))
    else:
        report.show(result, options.command)
    return code


def act(cluster, options):
    """The report, and the exit code."""
    try:
        chosen = plan.select(cluster.hosts, options.arguments if options.command != "scale" else [])
    except ValueError as error:
        raise Broken(64, str(error)) from None
    command, brokers, lines = options.command, None, None
    if command == "up":
        cluster.up()
    elif command == "scale":
        cluster.scale(int(options.arguments[0]))
    elif command == "drain":
        cluster.drain(chosen)
    elif command == "rolling-restart":
        cluster.rolling_restart()
    elif command == "down":
        cluster.down()
    elif command == "logs":
        lines = [{"host": answer.host.text, "unit": unit, "line": line.rstrip()}
                 for answer in cluster.logs(chosen, options.lines, options.unit) for unit, line in answer.lines]
    else:
        brokers = cluster.status(chosen)
    result = cluster.report(command, brokers)
    if lines is not None:
        result["lines"] = lines
    code = 0 if result["ok"] else 1
    if command == "status" and cluster.brokers() and not brokers and not result["unreachable"]:
        code = 69
    return result, code


def main():
    try:
        return perform(parse(sys.argv[1:]))
    except hosts_file.BadHosts as error:
        code, message = 65, error
    except Broken as error:
        code, message = error.args
    except OSError as error:
        code, message = 74, f"{error.filename or 'input or output'}: {error.strerror}"
    except KeyboardInterrupt:
        code, message = 130, "interrupted; what was already started keeps running"
    print(f"cluster.sh: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
