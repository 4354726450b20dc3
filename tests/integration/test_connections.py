"""Peers that connect and do nothing, or never end a message: the broker serves the others, within its limits
of descriptors and memory."""
import os
import resource
import socket
import struct
import time
import unittest

import msgpack
import zmq

import harness
from harness import wait_until

MIB = 1 << 20


def connect(port):
    peer = socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return peer


def is_closed(peer):
    """Whether the other side has closed or reset it; reads what came before."""
    peer.settimeout(0)
    try:
        while peer.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


class ConnectionCase(harness.Case):
    def start(self, *flags, descriptors=1024):
        broker = self.broker(*flags)
        broker.arguments = ["prlimit", f"--nofile={descriptors}", *broker.arguments]
        return broker.start()

    def connect_many(self, port, count):
        peers = [connect(port) for _ in range(count)]
        self.addCleanup(lambda: [peer.close() for peer in peers])
        return peers


class IdleTest(ConnectionCase):
    def test_more_than_there_are_descriptors_for_beside_a_load(self):
        broker = self.start()
        limit = broker.status()["connections"]["limit"]
        self.assertLess(limit, 1024)
        self.connect_many(broker.frontend_port, 1100)
        self.connect_many(broker.backend_port, 300)
        # New segments begin meanwhile.
        load = self.produce("load", broker, "--queue", "q", "--size", "100KiB", "--rate", "400", "--duration", "3s",
                            "--no-wait", "--quiet", "--json")
        self.assert_exit(load, 0)
        self.assertTrue(broker.running())
        self.assertGreater(len(list(broker.data.glob("segment-*"))), 1)
        wait_until(lambda: broker.status()["connections"]["open"] <= limit, what="the limit being kept")
        self.assertGreater(broker.status()["connections"]["closed"]["capacity"], 0)
        self.assertIn("--max-connections", broker.text())

    def test_one_without_a_session_is_closed_and_others_are_not(self):
        broker = self.start("--max-connections", "50")
        worker = self.worker(broker, "q=echo").start()
        broker.wait_workers(1)
        [idle] = self.connect_many(broker.backend_port, 1)
        wait_until(lambda: is_closed(idle), what="the idle connection being closed")
        self.assertEqual(broker.status()["connections"]["closed"]["no_session"], 1)
        self.assertTrue(broker.status()["workers"][0]["connected"])
        self.assertNotIn("lost", worker.text())

    def test_the_http_port_answers_health_checks(self):
        broker = self.start()
        self.connect_many(broker.http_port, 300)
        self.assertEqual(broker.get("/healthz")[0], 200)
        self.assertEqual(broker.get("/readyz")[0], 200)
        wait_until(lambda: broker.get("/v1/status")[0] == 200, what="an idle connection giving way")


class EndlessMessageTest(ConnectionCase):
    def test_its_connection_is_closed(self):
        broker = self.start()
        before = broker.rss()
        peer = connect(broker.frontend_port)
        self.addCleanup(peer.close)
        # ZMTP 3.0, NULL, as a DEALER; then frames that all say that more follow.
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
        peer.recv(64, socket.MSG_WAITALL)  # the broker's greeting
        peer.sendall(bytes([4, len(ready)]) + ready)
        size = peer.recv(2, socket.MSG_WAITALL)[1]
        peer.recv(size, socket.MSG_WAITALL)  # its READY
        frames = (b"\x03" + struct.pack(">Q", 65536) + b"x" * 65536) * 16
        sent = 0
        with self.assertRaises(ConnectionError):  # and no time-out
            while sent < 1024 * MIB:
                peer.sendall(frames)
                sent += len(frames)
        wait_until(lambda: broker.status()["connections"]["closed"]["unread_bytes"] == 1, what="the count")
        self.assertLess(broker.rss() - before, 256 * MIB)


HELLO, REGISTER, HEARTBEAT, WELCOME, REREGISTER, ERROR = 1, 10, 20, 30, 50, 51


class SessionTest(ConnectionCase):
    def peer(self, port, routing_id=None):
        peer = zmq.Context.instance().socket(zmq.DEALER)
        self.addCleanup(peer.close, linger=0)
        if routing_id:
            peer.routing_id = routing_id
        peer.connect(f"tcp://127.0.0.1:{port}")
        return peer

    def ask(self, peer, kind, session, *fields, timeout=harness.DEADLINE):
        """The type and the first field of the answer."""
        peer.send(msgpack.packb([1, kind, session, *fields]))
        while peer.poll(timeout * 1000):
            answer = msgpack.unpackb(peer.recv())
            if answer[1] in (WELCOME, ERROR):
                return answer[1], answer[3]
        return None, None

    def test_a_producer_in_use_is_let_go_when_its_connection_is_closed(self):
        broker = self.start("--heartbeat", "10s")
        first, second = self.peer(broker.frontend_port), self.peer(broker.frontend_port)
        self.assertEqual(self.ask(first, HELLO, 1, b"p" * 16)[0], WELCOME)
        self.assertEqual(self.ask(second, HELLO, 1, b"q" * 16), (ERROR, "not_yours"))
        second.send(msgpack.packb([1, HELLO, 2, b"p" * 16]))
        self.wait_for(first, HEARTBEAT)  # the broker looks whether it is alive
        first.send(msgpack.packb([1, HEARTBEAT, 1]))
        self.assertEqual(self.wait_for(second, ERROR)[3], "not_yours")
        first.close(linger=0)
        closed = time.monotonic()
        self.assertEqual(self.ask(second, HELLO, 3, b"p" * 16)[0], WELCOME)
        self.assertLess(time.monotonic() - closed, 10)  # before the first counts as silent

    def test_a_producer_or_worker_that_stays_silent_is_taken_over(self):
        broker = self.start()
        for port, number, (kind, *fields) in (
                (broker.frontend_port, 1, (HELLO, b"p" * 16)),
                (broker.backend_port, 3, (REGISTER, b"w" * 16, "w", ["q"], 1, []))):
            first, second = self.peer(port), self.peer(port)
            self.assertEqual(self.ask(first, kind, number, *fields)[0], WELCOME)
            began = time.monotonic()
            self.assertEqual(self.ask(second, kind, number + 1, *fields)[0], WELCOME)
            self.assertGreater(time.monotonic() - began, 1.4)
            self.assertLess(time.monotonic() - began, 2.9)  # before the first counts as silent
            first.send(msgpack.packb([1, HEARTBEAT, number]))
            self.wait_for(first, REREGISTER)

    def wait_for(self, peer, kind):
        def take():
            if not peer.poll(100):
                return None
            answer = msgpack.unpackb(peer.recv())
            return answer if answer[1] == kind else None
        return wait_until(take, what=f"a message of type {kind}")

    def test_one_connection_has_64_sessions(self):
        broker = self.start()
        crowded, other = self.peer(broker.frontend_port), self.peer(broker.backend_port)
        for number in range(1, 65):
            self.assertEqual(self.ask(crowded, HELLO, number, bytes([number]) * 16)[0], WELCOME)
        self.assertEqual(self.ask(crowded, HELLO, 65, bytes(16)), (ERROR, "too_many_sessions"))
        self.assertEqual(self.ask(other, REGISTER, 66, b"w" * 16, "w", ["q"], 1, [])[0], WELCOME)

    def test_a_routing_id_in_use_is_not_handed_over(self):
        broker = self.start()
        owner = self.peer(broker.backend_port, b"worker-a")
        self.assertEqual(self.ask(owner, REGISTER, 1, b"w" * 16, "w", ["q"], 1, [])[0], WELCOME)
        stranger = self.peer(broker.backend_port, b"worker-a")
        self.assertEqual(self.ask(stranger, REGISTER, 2, b"x" * 16, "x", ["q"], 1, [], timeout=1), (None, None))
        owner.send(msgpack.packb([1, 11, 1, 1]))  # CREDIT
        self.assert_exit(self.produce("submit", broker, "--queue", "q", "x"), 0)
        lease = 40
        wait_until(lambda: owner.poll(100) and msgpack.unpackb(owner.recv())[1] == lease, what="the LEASE")
        self.assertFalse(stranger.poll(0))


class NoDescriptorsTest(ConnectionCase):
    def test_accepting_does_not_spin(self):
        broker = self.start()
        worker = self.worker(broker, "q=echo").start()
        broker.wait_workers(1)
        limits = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{broker.pid}/fd")), limits[1]))
        before = broker.cpu_seconds()
        self.connect_many(broker.frontend_port, 100)
        wait_until(lambda: "can't be accepted" in broker.text(), what="the log line")
        time.sleep(1)  # the time that is measured
        self.assertLess(broker.cpu_seconds() - before, 0.5)
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, limits)
        self.assert_exit(self.produce("submit", broker, "--queue", "q", "x"), 0)
        self.assertTrue(worker.running())


if __name__ == "__main__":
    unittest.main()
