"""journal_files.py read DIR: reads a journal's segments and nothing else; prints bytes and milliseconds.
journal_files.py forget DIR: puts them out of the page cache."""
import os
import sys
import time
from pathlib import Path


def read(paths):
    buffer = memoryview(bytearray(1 << 20))
    total, begin = 0, time.monotonic()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    print(total, round((time.monotonic() - begin) * 1000))


def forget(paths):
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main():
    paths = sorted(Path(sys.argv[2]).glob("segment-*.mrj"))
    {"read": read, "forget": forget}[sys.argv[1]](paths)


if __name__ == "__main__":
    main()
