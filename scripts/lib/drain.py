"""Resumes a queue and waits until so many jobs of the broker are done: the milliseconds between."""
import json
import sys
import time
import urllib.request

LIMIT_SECONDS = 600
POLL_SECONDS = 0.002


def main():
    broker, queue, target = f"http://{sys.argv[1]}/v1", sys.argv[2], int(sys.argv[3])
    begin = time.monotonic()
    urllib.request.urlopen(urllib.request.Request(f"{broker}/queues/{queue}/resume", method="POST"), timeout=30).close()
    while time.monotonic() < begin + LIMIT_SECONDS:
        with urllib.request.urlopen(f"{broker}/status", timeout=30) as answer:
            if json.load(answer)["jobs"]["done"] >= target:
                print(round((time.monotonic() - begin) * 1000))
                return
        time.sleep(POLL_SECONDS)
    sys.exit(f"drain.py: not {target} jobs are done after {LIMIT_SECONDS} s")


if __name__ == "__main__":
    main()
