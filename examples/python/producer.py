#!/usr/bin/python3
"""A Millrace producer in Python, after docs/PROTOCOL.md, section 4. Each line of stdin is a job.

    printf 'one\\ntwo\\n' | examples/python/producer.py --queue words

It prints a line of JSON for each job that ends, and exits when all have ended, with 1 if some did not
succeed. A producer that must survive its own restart stores its ID, its sequences and payloads in a file;
this one keeps them in memory.
"""
import argparse
import collections
import json
import secrets
import sys
import time

from session import Session

HELLO, SUBMIT, QUERY, COLLECTED = 1, 2, 3, 4
CONFIRM, REJECT, OUTCOME, STATES = 31, 32, 33, 34
BATCH_BYTES, BATCH_JOBS = 100_000, 1_000
ENDS = ("done", "dead", "cancelled", "expired", "ended")


class Producer(Session):
    def __init__(self, address, queue, payloads):
        super().__init__(address)
        self.queue = queue
        self.producer = secrets.token_bytes(16)
        self.unanswered = dict(enumerate(payloads, start=1))  # sequence → payload
        self.next_seq = len(self.unanswered) + 1
        self.sent = 0  # the highest sequence sent in this session
        self.waited_for = {}  # job → sequence
        self.not_before = 0.0  # when to retry after a rejection
        self.questions = collections.deque()  # unanswered QUERYs; True: a barrier
        self.gone = {}  # ended job → state, until its OUTCOME arrives
        self.ended = []  # what to print
        self.failed = 0

    def finished(self):
        return not self.unanswered and not self.waited_for

    # What the session asks for.

    def first_message(self):
        return HELLO, (self.producer,)

    def on_welcome(self, stale):
        self.sent = 0  # what got no answer goes again; known jobs are not made twice
        self.questions.clear()
        self.gone.clear()
        self.query(list(self.waited_for))

    def on_message(self, kind, fields):
        if kind == CONFIRM:
            for first_seq, count, first_job, known, *_ in fields[1]:
                self.on_confirm(first_seq, count, first_job, known)
        elif kind == REJECT:
            for first_seq, count, reason, retry_after_ms, message, *_ in fields[0]:
                self.on_reject(first_seq, count, reason, retry_after_ms, message)
        elif kind == OUTCOME:
            ours = [job for first_job, count, state, attempts, result, error, *_ in fields[0]
                    for job in range(first_job, first_job + count) if self.end(job, state, attempts, result, error)]
            # Of a job that is not known here the CONFIRM is still to come, and QUERY brings its OUTCOME again.
            self.send(COLLECTED, [[job, 1] for job in ours])
        elif kind == STATES:
            self.on_states(fields[0])

    def on_confirm(self, first_seq, count, first_job, known):
        fresh = [i for i in range(count) if self.unanswered.pop(first_seq + i, None) is not None]
        for i in fresh:
            self.waited_for[first_job + i] = first_seq + i
        if known:  # it may have ended while we were away
            self.query([first_job + i for i in fresh])

    def on_reject(self, first_seq, count, reason, retry_after_ms, message):
        for seq in range(first_seq, first_seq + count):
            if seq not in self.unanswered:
                continue
            if retry_after_ms > 0:
                self.sent = min(self.sent, seq - 1)
                self.not_before = time.monotonic() + retry_after_ms / 1000
                continue
            del self.unanswered[seq]
            self.failed += 1
            self.ended.append({"seq": seq, "state": "rejected", "error": f"{reason}: {message}"})

    def on_states(self, ranges):
        """The OUTCOMEs of a QUERY come behind its STATES and before the next one's: an empty QUERY tells
        that all of them are here."""
        if self.questions.popleft():
            for job in self.gone.keys() & self.waited_for.keys():
                self.end(job, self.gone[job], None, None, "the broker keeps its result no longer")
            self.gone.clear()
            return
        for first_job, count, state, *_ in ranges:
            if state in ENDS or state == "unknown":
                self.gone.update({job: state for job in range(first_job, first_job + count)})
        if self.gone:
            self.send(QUERY, [])
            self.questions.append(True)

    def end(self, job, state, attempts, result, error):
        """Whether this is one of ours."""
        seq = self.waited_for.pop(job, None)
        if seq is None:
            return False
        line = {"id": f"{self.broker:08x}-{job}", "seq": seq, "state": state, "attempts": attempts}
        if result is not None:
            line["result"] = result.decode(errors="replace")
        if error is not None:
            line["error"] = error
        self.failed += state != "done"
        self.ended.append(line)
        return True

    # What it does by itself.

    def submit(self):
        """As much as the broker's window lets it have unanswered."""
        if time.monotonic() < self.not_before:
            return
        jobs = self.settings["window_jobs"]
        size = self.settings["window_bytes"]
        for seq, payload in self.unanswered.items():
            if seq > self.sent:
                break
            jobs -= 1
            size -= len(payload)
        batch = []
        for seq, payload in list(self.unanswered.items()):
            if seq <= self.sent:
                continue
            if jobs <= 0 or size <= 0:
                break
            jobs -= 1
            size -= len(payload)
            if batch and (seq != batch[-1][0] + 1 or len(batch) >= BATCH_JOBS
                          or sum(len(p) for _, p in batch) + len(payload) > BATCH_BYTES):
                self.send_batch(batch)
                batch = []
            batch.append((seq, payload))
        self.send_batch(batch)

    def send_batch(self, batch):
        if not batch:
            return
        floor = min(self.unanswered, default=self.next_seq)
        self.send(SUBMIT, floor, batch[0][0], self.queue, {"report": "result"}, [payload for _, payload in batch])
        self.sent = batch[-1][0]

    def query(self, jobs):
        for start in range(0, len(jobs), 4096):
            self.send(QUERY, [[job, 1] for job in jobs[start:start + 4096]])
            self.questions.append(False)


def main():
    parser = argparse.ArgumentParser(description="Submits each line of stdin as a job, and waits for all.")
    parser.add_argument("--broker", default="tcp://127.0.0.1:5570", help="the broker's frontend")
    parser.add_argument("--queue", required=True)
    options = parser.parse_args()

    producer = Producer(options.broker, options.queue, sys.stdin.buffer.read().splitlines())
    while not producer.finished():
        producer.turn(0.1)
        if producer.welcomed:
            producer.submit()
        for line in producer.ended:
            print(json.dumps(line, ensure_ascii=False), flush=True)
        producer.ended.clear()
    for line in producer.ended:
        print(json.dumps(line, ensure_ascii=False))
    producer.leave()
    sys.exit(1 if producer.failed else 0)


if __name__ == "__main__":
    main()
