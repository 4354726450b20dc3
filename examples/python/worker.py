#!/usr/bin/python3
"""A Millrace worker in Python, after docs/PROTOCOL.md, section 5. It counts words:

    examples/python/worker.py --queue words
    millrace-producer submit --queue words --wait 'to be or not to be'
    # {"id":"3f9a1c07-1",…,"result":"{\"to\": 2, \"be\": 2, \"or\": 1, \"not\": 1}"}

For your own worker, change handle(). The worker runs one job at a time, in its only thread; start several
for more. A long job would delay heartbeats: in that case, run handle() in another process.
"""
import argparse
import collections
import json
import os
import secrets
import signal
import socket
import sys
import time

from session import Session

REGISTER, CREDIT, DONE, FAIL, RELEASE, EXTEND = 10, 11, 12, 13, 14, 15
LEASE, DONE_OK, STALE, CANCELLED = 40, 41, 42, 43


class Permanent(Exception):
    """The job can never succeed."""


def handle(payload):
    """Bytes to bytes. Raise Permanent for a permanent failure; any other exception is retried."""
    try:
        words = payload.decode().split()
    except UnicodeDecodeError as error:
        raise Permanent(f"the text is not UTF-8: {error}") from error
    return json.dumps(collections.Counter(words)).encode()


class Worker(Session):
    def __init__(self, address, queue, prefetch):
        super().__init__(address)
        self.queue, self.prefetch = queue, prefetch
        self.worker = secrets.token_bytes(16)  # of this process
        self.waiting = collections.OrderedDict()  # (job, epoch) → (attempt, wants_result, payload)
        self.batches = {}  # batch number → (type, {(job, epoch): fields}), until its DONE_OK
        self.last_batch = 0
        self.lease_seconds, self.extended = {}, {}  # by (job, epoch)
        self.draining = False

    def held(self):
        """All that a new session has to claim: waiting, or ended and not confirmed."""
        ended = [lease for _, entries in self.batches.values() for lease in entries]
        return [*self.waiting, *ended]

    # What the session asks for.

    def first_message(self):
        name = f"{socket.gethostname()}:{os.getpid()}"
        return REGISTER, (self.worker, name, [self.queue], 1, self.held())

    def on_welcome(self, stale):
        self.forget(stale)
        for batch in sorted(self.batches):
            self.send_batch(batch)
        now = time.monotonic()
        for lease in self.extended:  # what the broker let us claim begins a new lease
            self.extended[lease] = now
        self.send(CREDIT, 0 if self.draining else self.prefetch)

    def on_message(self, kind, fields):
        if kind == LEASE:
            self.on_lease(fields[1], fields[2] / 1000)
        elif kind == DONE_OK:
            _, entries = self.batches.pop(fields[0], (None, {}))
            self.let_go(entries)
        elif kind in (STALE, CANCELLED):
            self.forget([tuple(lease[:2]) for lease in fields[0]])

    def on_lease(self, jobs, seconds):
        for job, epoch, attempt, wants_result, payload, *_ in jobs:
            lease = (job, epoch)
            if lease in self.extended:
                continue
            older = [other for other in self.extended if other[0] == job and other[1] < epoch]
            self.forget(older)
            self.waiting[lease] = (attempt, wants_result, payload)
            self.lease_seconds[lease], self.extended[lease] = seconds, time.monotonic()
        if self.draining:
            self.release_waiting()

    # What it does by itself.

    def work(self):
        """Runs the job that has waited longest, if there is one."""
        if not self.waiting:
            return
        lease, (_, wants_result, payload) = next(iter(self.waiting.items()))
        try:
            result = handle(payload)
            kind, end = DONE, (result if wants_result else None,)
        except Permanent as error:
            kind, end = FAIL, ("permanent", str(error))
        except Exception as error:  # pylint: disable=broad-except
            kind, end = FAIL, ("retryable", repr(error))
        if self.waiting.pop(lease, None):
            self.end(kind, {lease: end})

    def end(self, kind, entries):
        self.last_batch += 1
        self.batches[self.last_batch] = (kind, entries)
        if self.welcomed:
            self.send_batch(self.last_batch)

    def send_batch(self, batch):
        kind, entries = self.batches[batch]
        self.send(kind, batch, [[*lease, *fields] for lease, fields in entries.items()])

    def extend(self):
        """What has been held for a third of its lease."""
        now = time.monotonic()
        due = [lease for lease, then in self.extended.items() if now - then > self.lease_seconds[lease] / 3]
        for start in range(0, len(due), 4096):
            self.send(EXTEND, due[start:start + 4096])
        for lease in due:
            self.extended[lease] = now

    def drain(self):
        self.draining = True
        self.send(CREDIT, 0)
        self.release_waiting()

    def release_waiting(self):
        if self.waiting:
            self.end(RELEASE, {lease: () for lease in self.waiting})
            self.waiting.clear()

    def forget(self, leases):
        """Nobody wants these any more: neither run nor repeated."""
        for lease in leases:
            self.waiting.pop(lease, None)
            for _, entries in self.batches.values():
                entries.pop(lease, None)
        self.let_go(leases)

    def let_go(self, leases):
        for lease in leases:
            self.lease_seconds.pop(lease, None)
            self.extended.pop(lease, None)


def main():
    parser = argparse.ArgumentParser(description="Counts the words of each job.")
    parser.add_argument("--broker", default="tcp://127.0.0.1:5571", help="the broker's backend")
    parser.add_argument("--queue", required=True)
    parser.add_argument("--prefetch", type=int, default=64, help="jobs to hold")
    options = parser.parse_args()

    worker = Worker(options.broker, options.queue, options.prefetch)
    stops = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(1))
    while not (worker.draining and not worker.held()):
        worker.turn(0 if worker.waiting and worker.welcomed else 0.1)
        worker.work()
        if worker.welcomed:
            worker.extend()
        if stops and not worker.draining:
            worker.drain()
        if len(stops) > 1:
            sys.exit(130)
    worker.leave()


if __name__ == "__main__":
    main()
