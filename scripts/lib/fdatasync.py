"""The median time of one append of 4 KiB and its fdatasync in a directory, in microseconds."""
import os
import sys
import time

BLOCK = os.urandom(4096)
ROUNDS = 2000
SECONDS = 5


def main():
    path = os.path.join(sys.argv[1], "fdatasync.tmp")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    times, end = [], time.monotonic() + SECONDS
    try:
        while len(times) < ROUNDS and time.monotonic() < end:
            start = time.perf_counter_ns()
            os.write(file, BLOCK)
            os.fdatasync(file)
            times.append(time.perf_counter_ns() - start)
    finally:
        os.close(file)
        os.unlink(path)
    print(sorted(times)[len(times) // 2] // 1000)


if __name__ == "__main__":
    main()
