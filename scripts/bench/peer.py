"""A peer that speaks the wire protocol (docs/PROTOCOL.md) without keeping its rules."""
import os
import secrets
import socket
import struct
import time

import msgpack
import zmq

HELLO, SUBMIT, QUERY, COLLECTED, CANCEL = 1, 2, 3, 4, 5
REGISTER, CREDIT = 10, 11
HEARTBEAT = 20
CONFIRM, REJECT, OUTCOME, STATES = 31, 32, 33, 34
LEASE = 40


class Peer:
    """One DEALER socket, one session."""

    def __init__(self, port, high_water_mark=0):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self.socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self.socket.connect(f"tcp://127.0.0.1:{port}")
        self.session = secrets.randbits(63) | 1

    def frame(self, kind, *fields):
        return msgpack.packb([1, kind, self.session, *fields])

    def send(self, kind, *fields):
        self.socket.send(self.frame(kind, *fields))

    def try_send(self, frame):
        """False while the socket has no room, as under back-pressure."""
        try:
            self.socket.send(frame, zmq.NOBLOCK)
            return True
        except zmq.Again:
            return False

    def receive(self, seconds):
        """[type, field, …], or None."""
        if not self.socket.poll(int(seconds * 1000)):
            return None
        _, kind, _, *fields = msgpack.unpackb(self.socket.recv(), unicode_errors="replace", strict_map_key=False)
        return [kind, *fields]

    def wait_for(self, kind, seconds=5.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.receive(0.2)
            if message and message[0] == kind:
                return message
            if not message:
                self.send(HEARTBEAT)
        return None

    def discard(self):
        while self.socket.poll(0):
            self.socket.recv()

    def hello(self):
        self.send(HELLO, os.urandom(16))
        self.receive(3)
        return self

    def register(self, queues):
        self.send(REGISTER, os.urandom(16), "attacker", queues, 1, [])
        self.receive(3)
        return self

    def submit(self, first, queue, options, payloads, floor=None):
        self.send(SUBMIT, first if floor is None else floor, first, queue, options, payloads)

    def submit_all(self, count, queue, options=None, payload=b""):
        """Submits `count` jobs and waits for their answers; the number of the first job."""
        self.submit(1, queue, options or {}, [payload] * count)
        confirm = self.wait_for(CONFIRM)
        return confirm[2][0][2] if confirm else None


def raw_connection(port):
    """A TCP connection that has made ZMTP's handshake as a DEALER (NULL mechanism)."""
    connection = socket.create_connection(("127.0.0.1", port), 2)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))

    def metadata(name, value):
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value

    ready = b"\x05READY" + metadata(b"Socket-Type", b"DEALER") + metadata(b"Identity", b"")
    connection.sendall(bytes([4, len(ready)]) + ready)
    connection.settimeout(2)
    try:
        connection.recv(4096)
    except socket.timeout:
        pass
    return connection
