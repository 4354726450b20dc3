"""Arguments of the benchmarks: the same flags, messages and exit codes in all of them."""
import argparse
import re
import shutil
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USAGE, UNAVAILABLE, PORT_IN_USE = 64, 69, 73
EXIT = """With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 1 {failed}; 64 usage; 69 something is missing or does not start; 73 a port is in use."""


class Failure(Exception):
    """(exit code, message)"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage, actions, groups, prefix=None):
        super().add_usage(usage, actions, groups, "Usage: ")


class Parser(argparse.ArgumentParser):
    """With the flags that every benchmark has. `ports` says which it uses, from `port_base` on."""

    script = ""  # the name before every message

    def __init__(self, script, description, port_base, ports="P, P+1 and P+10", failed="jobs were lost or failed"):
        Parser.script = script
        super().__init__(prog=f"scripts/{script}", description=description, epilog=EXIT.format(failed=failed),
                         formatter_class=Formatter, allow_abbrev=False)
        self.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
        self.add_argument("--port-base", type=number(1, 65000), default=port_base, metavar="P",
                          help=f"ports {ports} of 127.0.0.1 ({port_base})")
        self.add_argument("--dir", type=directory, default=ROOT / "build", metavar="DIR",
                          help="a directory on the disk to measure (build)")

    def add_number(self, flag, low, high, default, help_):
        self.add_argument(flag, type=number(low, high), default=default, metavar="N",
                          help=f"{help_} ({default:,})" if default else help_)

    def add_names(self, flag, names, help_):
        self.add_argument(flag, type=some_of(names), default=list(names), metavar="LIST", help=help_)

    def add_svg(self):
        self.add_argument("--svg", type=Path, metavar="FILE", help="also draw a chart (needs gnuplot)")

    def error(self, message):
        message = re.sub(r"^argument (\S+): expected one argument", r"\1 needs a value", message)
        raise Failure(USAGE, f"{message.replace('argument ', '', 1)}; see {self.prog} --help")

    def parse(self):
        options = self.parse_args()
        options.command = " ".join([self.prog, *sys.argv[1:]])
        if getattr(options, "svg", None) and not shutil.which("gnuplot"):
            raise Failure(UNAVAILABLE, "--svg needs gnuplot: apt-get install gnuplot-nox")
        return options


def number(low, high):
    def parse(text):
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"takes a whole number from {low} to {high}, not '{text}'")
        return int(text)

    return parse


def directory(text):
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not a directory")
    return Path(text).resolve()


def some_of(names):
    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in names:
                raise argparse.ArgumentTypeError(f"takes {', '.join(names)}, not '{word}'")
        return words

    return parse


def note(text):
    """A line on stderr; on a terminal it replaces a progress bar."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{Parser.script}: {text}", file=sys.stderr, flush=True)


def run(main):
    """The exit code of main(), which raises Failure; on SIGTERM everything is cleaned up first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failure as failure:
        code, message = failure.args
        note(message)
        sys.exit(code)
    except OSError as error:  # mostly a broker that has ended
        note(error)
        sys.exit(UNAVAILABLE)
    except KeyboardInterrupt:
        sys.exit(130)
