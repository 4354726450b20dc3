"""How far a command is, on stderr: a bar on a terminal, a line for each part of the work otherwise."""
import sys

WIDTH = 30


class Progress:
    def __init__(self, stream=sys.stderr, quiet=False):
        self.stream, self.quiet = stream, quiet
        self.bar = not quiet and stream.isatty()
        self.done = self.total = 0

    def begin(self, what, total, noun="host"):
        self.done, self.total = 0, total
        if self.bar:
            self.draw(what)
        elif not self.quiet and total:
            self.note(f"{what}: {total} {noun}{'' if total == 1 else 's'}")

    def step(self, what):
        self.done += 1
        if self.bar:
            self.draw(what)

    def draw(self, what):
        filled = WIDTH * self.done // max(1, self.total)
        self.stream.write(f"\r\033[K[{'#' * filled}{'-' * (WIDTH - filled)}] {self.done}/{self.total} {what}")
        self.stream.flush()

    def end(self):
        if self.bar:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def note(self, text):
        if self.bar:
            self.stream.write("\r\033[K")
        print(f"cluster.sh: {text}", file=self.stream, flush=True)
