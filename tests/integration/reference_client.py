"""A producer and a worker in Python, written from docs/PROTOCOL.md and nothing else: if they work,
the page is complete. Small, single-threaded and unhurried; examples of the protocol, not a library.
"""
import os
import random
import secrets
import time

import msgpack
import zmq

VERSION = 1
HELLO, SUBMIT, QUERY, COLLECTED, CANCEL = 1, 2, 3, 4, 5
REGISTER, CREDIT, DONE, FAIL, RELEASE, EXTEND = 10, 11, 12, 13, 14, 15
HEARTBEAT, BYE = 20, 21
WELCOME, CONFIRM, REJECT, OUTCOME, STATES = 30, 31, 32, 33, 34
LEASE, DONE_OK, STALE, CANCELLED = 40, 41, 42, 43
REREGISTER, ERROR = 50, 51

# Section 6: jobs in one message; a frame may exceed max_job_size by 1 MiB; this uses half of it.
MAX_JOBS = 4096
MAX_BYTES = 512 << 10


def pack(*fields):
    return msgpack.packb(fields)


def unpack(frame):
    return msgpack.unpackb(frame, unicode_errors="replace", strict_map_key=False)


class Connection:
    """Section 2: one session per socket; a new one when the broker is silent or sends REREGISTER."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.context = zmq.Context.instance()
        self.socket = None
        self.settings = None  # of the last WELCOME; None while there is no session
        self.errors = []  # every ERROR that came
        self.backoff = 0.1
        self.open_at = 0.0
        self.heard = self.spoken = 0.0
        self.heartbeat, self.liveness = 1.0, 3

    def greeting(self):
        raise NotImplementedError

    def welcomed(self, stale):
        raise NotImplementedError

    def received(self, kind, fields):
        raise NotImplementedError

    def send(self, kind, *fields):
        self.spoken = time.monotonic()
        self.socket.send(pack(VERSION, kind, self.session, *fields))

    def open(self):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(self.endpoint)
        self.session = secrets.randbits(64) | 1
        self.heard = time.monotonic()
        self.send(*self.greeting())

    def lose(self):
        self.socket.close()
        self.socket = self.settings = None
        self.open_at = time.monotonic() + self.backoff * random.uniform(0.5, 1.5)
        self.backoff = min(5.0, self.backoff * 2)

    def step(self, seconds=0.05):
        """Does what is due, and waits at most so long for messages."""
        now = time.monotonic()
        if self.socket is None:
            if now < self.open_at:
                time.sleep(min(seconds, self.open_at - now))
                return
            self.open()
        if now - self.heard > self.heartbeat * self.liveness:
            self.lose()
            return
        if self.settings and now - self.spoken > self.heartbeat / 2:
            self.send(HEARTBEAT)
        if self.socket.poll(int(seconds * 1000)):
            self.take(self.socket.recv_multipart())

    def take(self, frames):
        version, kind, session, *fields = unpack(frames[0])
        if version != VERSION or (session != self.session and kind != ERROR):
            return
        self.heard = time.monotonic()
        if kind == WELCOME:
            self.settings, stale = fields[0], fields[1]
            self.heartbeat, self.liveness = self.settings["heartbeat_ms"] / 1000, self.settings["liveness"]
            self.backoff = 0.1
            self.welcomed([tuple(pair) for pair in stale])
        elif kind == REREGISTER:
            self.lose()
        elif kind == ERROR:
            self.errors.append((fields[0], fields[1]))
            if session == self.session and fields[0] in ("not_yours", "too_many_sessions"):
                self.lose()  # to try again
        elif kind != HEARTBEAT:
            self.received(kind, fields)

    def run_until(self, condition, deadline=30.0):
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing came of it in {deadline} s")
            self.step()

    def job_name(self, job):
        return f"{self.settings['broker']:08x}-{job}"

    def vanish(self):
        """Goes without a word, as a process that was killed does."""
        if self.socket:
            self.socket.close()
            self.socket = self.settings = None

    def leave(self):
        if self.settings:
            self.socket.setsockopt(zmq.LINGER, 1000)
            self.send(BYE)
        self.vanish()


class Producer(Connection):
    """Section 4."""

    def __init__(self, endpoint, producer=None, next_seq=1):
        super().__init__(endpoint)
        self.producer = producer or os.urandom(16)
        self.next_seq = next_seq
        self.unanswered = {}  # seq → (queue, options, payload, key)
        self.confirmed = {}  # seq → (job, known, durability)
        self.rejected = {}  # seq → (reason, message), for good
        self.later = {}  # seq → when to try again
        self.awaited = set()  # jobs whose end is to be reported
        self.outcomes = {}  # job → (state, attempts, result, error)
        self.states = {}  # job → state, from STATES
        self.in_flight = set()

    def greeting(self):
        return HELLO, self.producer

    def welcomed(self, stale):
        self.in_flight.clear()
        self.pump()
        if self.awaited:
            self.query(sorted(self.awaited))

    def submit(self, queue, payloads, keys=None, **options):
        seqs = range(self.next_seq, self.next_seq + len(payloads))
        for i, (seq, payload) in enumerate(zip(seqs, payloads)):
            self.unanswered[seq] = (queue, options, payload, keys[i] if keys else None)
        self.next_seq += len(payloads)
        if self.settings:
            self.pump()
        return list(seqs)

    def pump(self):
        """Sends what the window has room for, in runs of one queue and one set of options."""
        now, batch, size = time.monotonic(), [], 0
        jobs = self.settings["window_jobs"] - len(self.in_flight)
        room = self.settings["window_bytes"] - sum(len(self.unanswered[seq][2]) for seq in self.in_flight)
        for seq in sorted(self.unanswered):
            if seq in self.in_flight or self.later.get(seq, 0) > now:
                continue
            queue, options, payload, key = self.unanswered[seq]
            if jobs == 0 or (room < len(payload) and (batch or self.in_flight)):
                break
            jobs, room, size = jobs - 1, room - len(payload), size + len(payload)
            if batch and (seq != batch[-1] + 1 or len(batch) == MAX_JOBS or size > MAX_BYTES
                          or self.unanswered[batch[-1]][:2] != (queue, options)
                          or (self.unanswered[batch[-1]][3] is None) != (key is None)):
                self.send_batch(batch)
                batch, size = [], len(payload)
            batch.append(seq)
        if batch:
            self.send_batch(batch)

    def send_batch(self, seqs):
        queue, options, _, key = self.unanswered[seqs[0]]
        if key is not None:
            options = {**options, "keys": [self.unanswered[seq][3] for seq in seqs]}
        floor = min(self.unanswered)
        self.send(SUBMIT, floor, seqs[0], queue, options, [self.unanswered[seq][2] for seq in seqs])
        self.in_flight.update(seqs)

    def query(self, jobs):
        self.send(QUERY, [[job, 1] for job in jobs[:MAX_JOBS]])

    def cancel(self, jobs):
        self.send(CANCEL, [[job, 1] for job in jobs[:MAX_JOBS]])

    def received(self, kind, fields):
        if kind == CONFIRM:
            durability, ranges = fields[:2]
            for first_seq, count, first_job, known in (entry[:4] for entry in ranges):
                for i in range(count):
                    self.confirm(first_seq + i, first_job + i, known, durability)
        elif kind == REJECT:
            for first_seq, count, reason, retry_after_ms, message in (entry[:5] for entry in fields[0]):
                for seq in range(first_seq, first_seq + count):
                    self.in_flight.discard(seq)
                    if retry_after_ms:
                        self.later[seq] = time.monotonic() + retry_after_ms / 1000
                    else:
                        self.answered(seq)
                        self.rejected[seq] = (reason, message)
        elif kind == OUTCOME:
            for first_job, count, state, attempts, result, error in (entry[:6] for entry in fields[0]):
                for job in range(first_job, first_job + count):
                    self.outcomes[job] = (state, attempts, result, error)
                    self.awaited.discard(job)
                self.send(COLLECTED, [[first_job, count]])
        elif kind == STATES:
            for first_job, count, state in (entry[:3] for entry in fields[0]):
                self.states.update((job, state) for job in range(first_job, first_job + count))

    def confirm(self, seq, job, known, durability):
        entry = self.answered(seq)
        self.confirmed[seq] = (job, known, durability)
        if entry and entry[1].get("report", "none") != "none" and job not in self.outcomes:
            self.awaited.add(job)
            if known:  # it may have ended while nobody listened
                self.query([job])

    def answered(self, seq):
        entry = self.unanswered.pop(seq, None)
        self.in_flight.discard(seq)
        self.later.pop(seq, None)
        return entry

    def step(self, seconds=0.05):
        super().step(seconds)
        if self.settings and len(self.in_flight) < len(self.unanswered):
            self.pump()

    def confirm_all(self, deadline=30.0):
        self.run_until(lambda: not self.unanswered, deadline)

    def wait_for(self, jobs, deadline=30.0):
        """The jobs were submitted with report = outcome or result; what became of them."""
        self.run_until(lambda: all(job in self.outcomes for job in jobs), deadline)
        return [self.outcomes[job] for job in jobs]


class Failure(Exception):
    """What a handler raises to say how its job failed."""

    def __init__(self, kind, error):
        super().__init__(error)
        self.kind, self.error = kind, error


class Worker(Connection):
    """Section 5. `handler(queue, attempt, payload)` returns the result, or raises an error."""

    def __init__(self, endpoint, queues, handler, credit=16, worker=None, name="reference"):
        super().__init__(endpoint)
        self.worker = worker or os.urandom(16)
        self.name, self.queues, self.handler, self.credit = name, queues, handler, credit
        self.waiting = []  # [job, epoch, attempt, wants_result, payload, queue]
        self.extend_at = {}  # (job, epoch) → when to extend it
        self.unconfirmed = {}  # batch → (kind, entries)
        self.next_batch = 1
        self.executed = []  # jobs in the order in which they ran

    def greeting(self):
        held = set(self.extend_at) | {tuple(entry[:2]) for _, entries in self.unconfirmed.values() for entry in entries}
        return REGISTER, self.worker, self.name, self.queues, 1, [list(pair) for pair in held]

    def welcomed(self, stale):
        self.drop(stale)
        self.send(CREDIT, self.credit)
        for batch, (kind, entries) in list(self.unconfirmed.items()):
            self.send(kind, batch, entries)

    def drop(self, stale):
        self.waiting = [job for job in self.waiting if tuple(job[:2]) not in stale]
        for pair in stale:
            self.extend_at.pop(pair, None)
        for batch, (kind, entries) in list(self.unconfirmed.items()):
            rest = [entry for entry in entries if tuple(entry[:2]) not in stale]
            self.unconfirmed[batch] = (kind, rest)
            if not rest:
                del self.unconfirmed[batch]

    def received(self, kind, fields):
        if kind == LEASE:
            queue, jobs, lease_ms = fields[:3]
            self.third = lease_ms / 3000
            for entry in jobs:
                self.waiting.append([*entry[:5], queue])
                self.extend_at[tuple(entry[:2])] = time.monotonic() + self.third
        elif kind == DONE_OK:
            self.unconfirmed.pop(fields[0], None)
        elif kind in (STALE, CANCELLED):
            self.drop({tuple(pair) for pair in fields[0]})

    def end(self, kind, entries):
        batch, self.next_batch = self.next_batch, self.next_batch + 1
        self.unconfirmed[batch] = (kind, entries)
        for entry in entries:
            self.extend_at.pop(tuple(entry[:2]), None)
        if self.settings:
            self.send(kind, batch, entries)

    def work(self):
        """Runs one job that is waiting."""
        job, epoch, attempt, wants_result, payload, queue = self.waiting.pop(0)
        self.executed.append(job)
        try:
            result = self.handler(queue, attempt, payload)
        except Failure as failure:
            self.end(FAIL, [[job, epoch, failure.kind, failure.error]])
        except Exception as error:
            self.end(FAIL, [[job, epoch, "retryable", str(error)]])
        else:
            self.end(DONE, [[job, epoch, result if wants_result else None]])

    def extend(self):
        if not self.settings:
            return
        now = time.monotonic()
        due = [pair for pair, at in self.extend_at.items() if at <= now][:MAX_JOBS]
        if due:
            self.send(EXTEND, [list(pair) for pair in due])
            self.extend_at.update((pair, now + self.third) for pair in due)

    def step(self, seconds=0.05):
        super().step(0 if self.waiting else seconds)
        self.extend()
        if self.waiting:
            self.work()

    def drain(self, deadline=30.0):
        if self.settings:
            self.send(CREDIT, 0)
        self.run_until(lambda: not self.waiting and not self.unconfirmed, deadline)
        self.leave()
