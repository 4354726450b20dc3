"""Peers that ask for more than they read: they are told what fits, or disconnected with a log line, and the
others are served."""
import os
import time
import unittest

import zmq

import harness
import reference_client as wire
from harness import wait_until

KIB, MIB = 1 << 10, 1 << 20


class Peer:
    """A producer by hand; `window` messages of it are read ahead by its socket."""

    def __init__(self, case, broker, window=0):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, window)
        self.socket.setsockopt(zmq.RCVBUF, 64 * KIB)
        self.socket.connect(f"tcp://127.0.0.1:{broker.frontend_port}")
        case.addCleanup(self.socket.close)
        self.session = int.from_bytes(os.urandom(7), "big") | 1
        self.send(wire.HELLO, os.urandom(16))

    def send(self, kind, *fields):
        self.socket.send(wire.pack(1, kind, self.session, *fields))

    def wait_for(self, kind):
        deadline = time.monotonic() + harness.DEADLINE
        while time.monotonic() < deadline:
            if self.socket.poll(200):
                version, got, session, *fields = wire.unpack(self.socket.recv())
                if got == kind:
                    return fields
            self.send(wire.HEARTBEAT)
        raise AssertionError(f"no message of type {kind}")


class FairTest(harness.Case):
    def test_a_peer_that_does_not_read_is_disconnected_and_the_others_are_served(self):
        broker = self.broker("--send-buffer", "1MiB").start()
        self.worker(broker, "q=echo").start()
        slow = Peer(self, broker, window=1)
        for seq in range(1, 181):
            slow.send(wire.SUBMIT, 1, seq, "q", {"report": "result"}, [bytes(256 * KIB)])
        wait_until(lambda: broker.status()["slow_readers"] == 1 or slow.send(wire.HEARTBEAT),
                   what="the slow reader being disconnected")
        self.assertIn("does not read", broker.text())
        self.assertIn("--send-buffer", broker.text())
        self.assertLess(broker.status()["memory"]["output"], 20 * MIB)
        other = Peer(self, broker)
        other.send(wire.SUBMIT, 1, 1, "q", {"report": "result"}, [b"a"])
        self.assertEqual(other.wait_for(wire.OUTCOME)[0][0][4], b"a")

    def test_a_result_that_is_asked_for_4096_times_is_told_once(self):
        broker = self.broker().start()
        self.worker(broker, "q=echo").start()
        peer = Peer(self, broker)
        peer.send(wire.SUBMIT, 1, 1, "q", {"report": "result"}, [bytes(MIB)])
        job = peer.wait_for(wire.OUTCOME)[0][0][0]
        peer.send(wire.QUERY, [[job, 1]] * 4096)
        peer.send(wire.QUERY, [])
        self.assertEqual(peer.wait_for(wire.STATES), [[[job, 1, "done"]]])
        self.assertEqual(len(peer.wait_for(wire.OUTCOME)[0]), 1)
        self.assertEqual(peer.wait_for(wire.STATES), [[]])


if __name__ == "__main__":
    unittest.main()
