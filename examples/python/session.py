"""The connections of a Millrace client, one after the other (docs/PROTOCOL.md, sections 1 to 3).

A client subclasses Session and defines its first message (first_message) and how it handles messages
(on_welcome, on_message). The session does the rest: it opens sockets with a new session number each,
sends heartbeats, detects a silent broker, waits between attempts, and reconnects.
"""
import random
import secrets
import time

import msgpack
import zmq

VERSION = 1
HEARTBEAT, BYE, WELCOME, REREGISTER, ERROR = 20, 21, 30, 50, 51
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds, times 0.5 to 1.5


class Session:
    def __init__(self, address):
        self.address = address
        self.context = zmq.Context.instance()
        self.socket = None
        self.settings = None  # the map of WELCOME, once it has arrived
        self.pause = FIRST_PAUSE
        self.next_attempt = 0.0

    # Defined by the client.

    def first_message(self):
        """(type, fields) of HELLO or REGISTER."""
        raise NotImplementedError

    def on_welcome(self, stale):
        raise NotImplementedError

    def on_message(self, kind, fields):
        raise NotImplementedError

    # Used by the client.

    @property
    def welcomed(self):
        return self.settings is not None

    def send(self, kind, *fields):
        """Goes, or is lost with the connection: only answers count as delivery."""
        if self.socket is None:
            return
        try:
            self.socket.send(msgpack.packb([VERSION, kind, self.number, *fields]), zmq.DONTWAIT)
            self.last_sent = time.monotonic()
        except zmq.Again:
            self.lose("the broker takes nothing more")

    def turn(self, longest=0.2):
        """Waits for messages for that long at most, handles them, and keeps the session alive."""
        now = time.monotonic()
        if self.socket is None:
            if now < self.next_attempt:
                time.sleep(min(longest, self.next_attempt - now))
                return
            self.open()
        if self.socket.poll(1000 * min(longest, self.heartbeat / 2)):
            self.receive()
        self.look_after()

    def leave(self):
        self.send(BYE)
        if self.socket is not None:
            self.socket.close(linger=500)
            self.socket = None

    # Inside.

    def open(self):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(self.address)
        self.number = secrets.randbelow(2**64 - 1) + 1
        self.settings = None
        self.heartbeat, self.liveness = 1.0, 3
        self.last_heard = self.last_sent = time.monotonic()
        kind, fields = self.first_message()
        self.send(kind, *fields)

    def receive(self):
        while self.socket is not None:
            try:
                frame = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            version, kind, number, *fields = msgpack.unpackb(frame, raw=False, strict_map_key=False)
            if version != VERSION or (number != self.number and kind != ERROR):
                continue
            self.last_heard = time.monotonic()
            self.dispatch(kind, fields)

    def dispatch(self, kind, fields):
        if kind == WELCOME:
            self.settings, stale = fields[0], fields[1]
            self.broker = self.settings["broker"]
            self.heartbeat = self.settings["heartbeat_ms"] / 1000
            self.liveness = self.settings["liveness"]
            self.pause = FIRST_PAUSE
            self.on_welcome([tuple(lease[:2]) for lease in stale])
        elif kind == REREGISTER:
            self.lose("the broker does not know this session")
        elif kind == ERROR and fields[0] in ("not_yours", "too_many_sessions"):
            self.lose("the broker has no place for this session now")
        elif kind == ERROR:
            raise RuntimeError(f"the broker refuses a message: {fields[0]}: {fields[1]}")
        elif kind != HEARTBEAT and self.welcomed:
            self.on_message(kind, fields)

    def look_after(self):
        if self.socket is None:
            return
        now = time.monotonic()
        if now - self.last_heard >= self.heartbeat * self.liveness:
            self.lose("the broker is silent")
        elif self.welcomed and now - self.last_sent >= self.heartbeat / 2:
            self.send(HEARTBEAT)

    def lose(self, why):
        del why  # of interest in a debugger
        self.socket.close(linger=0)
        self.socket = None
        self.settings = None
        self.next_attempt = time.monotonic() + self.pause * random.uniform(0.5, 1.5)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
