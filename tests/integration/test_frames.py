"""What is not the protocol, on both ports: an ERROR or a closed connection, and a broker that lives,
serves, and has not grown."""
import os
import random
import socket
import struct
import unittest

import msgpack
import zmq

import harness
import reference_client as wire
from harness import wait_until

KIB, MIB = 1 << 10, 1 << 20


class Raw:
    """A DEALER that sends anything."""

    def __init__(self, case, endpoint):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        case.addCleanup(self.socket.close)

    def send(self, *parts):
        self.socket.send_multipart(parts)

    def answer(self, deadline=harness.DEADLINE):
        """The next message that is no heartbeat: [type, session, field, …]."""
        while self.socket.poll(int(deadline * 1000)):
            version, *rest = wire.unpack(self.socket.recv())
            assert version == 1
            if rest[0] != wire.HEARTBEAT:
                return rest
        raise AssertionError(f"no answer within {deadline:.0f} s")


def pack(*fields):
    return msgpack.packb(fields)


# What is wrong with the frame, the frame, and the code of the ERROR.
SESSION = 7
MALFORMED = {
    "nothing": b"",
    "a number": msgpack.packb(1),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "an empty array": pack(),
    "only a version": pack(1),
    "no session": pack(1, wire.HEARTBEAT),
    "a session of 0": pack(1, wire.HEARTBEAT, 0),
    "a negative session": pack(1, wire.HEARTBEAT, -1),
    "a session that is text": pack(1, wire.HEARTBEAT, "seven"),
    "a type that is text": pack(1, "HELLO", SESSION),
    "bytes behind the array": pack(1, wire.HEARTBEAT, SESSION) + b"x",
    "an array cut off": pack(1, wire.SUBMIT, SESSION, 1, 1, "q", {}, [b"x" * 100])[:-50],
    "an array header that claims 2^32 - 1 elements": b"\xdd\xff\xff\xff\xff\x01",
    "a field that claims 2^32 - 1 elements": b"\x98\x01\x02\x07\x01\x01\xa1q\x80\xdd\xff\xff\xff\xff",
    "a bin that claims 4 GiB": b"\x94\x01\x01\x07\xc6\xff\xff\xff\xffab",
    "a map that claims 2^32 - 1 pairs": b"\x98\x01\x02\x07\x01\x01\xa1q\xdf\xff\xff\xff\xff",
    "arrays in arrays": b"\x94\x01\x14\x07" + b"\x91" * 100_000 + b"\x01",
}
FRONTEND = {
    "HELLO without a producer": pack(1, wire.HELLO, SESSION),
    "HELLO with a short producer": pack(1, wire.HELLO, SESSION, b"short"),
    "SUBMIT with text as floor": pack(1, wire.SUBMIT, SESSION, "1", 1, "q", {}, [b""]),
    "SUBMIT with too many payloads": pack(1, wire.SUBMIT, SESSION, 1, 1, "q", {}, [b""] * 4097),
    "SUBMIT with numbers as payloads": pack(1, wire.SUBMIT, SESSION, 1, 1, "q", {}, [1, 2]),
    "SUBMIT with a list as options": pack(1, wire.SUBMIT, SESSION, 1, 1, "q", [], [b""]),
    "SUBMIT of sequence 0": pack(1, wire.SUBMIT, SESSION, 1, 0, "q", {}, [b""]),
    "SUBMIT beyond the last sequence": pack(1, wire.SUBMIT, SESSION, 1, 2**64 - 1, "q", {}, [b"", b""]),
    "QUERY of too many jobs": pack(1, wire.QUERY, SESSION, [[1, 2**40]]),
    "QUERY of too many ranges": pack(1, wire.QUERY, SESSION, [[1, 1]] * 4097),
    "QUERY with a range of three": pack(1, wire.QUERY, SESSION, [["a", "b", "c"]]),
    "COLLECTED of a wrapping range": pack(1, wire.COLLECTED, SESSION, [[2**64 - 1, 2]]),
}
BACKEND = {
    "REGISTER with too many queues": pack(1, wire.REGISTER, SESSION, b"w" * 16, "n", ["q%d" % i for i in range(10_001)], 1, []),
    "REGISTER with too many claims": pack(1, wire.REGISTER, SESSION, b"w" * 16, "n", ["q"], 1, [[1, 1]] * 65537),
    "REGISTER with a number as name": pack(1, wire.REGISTER, SESSION, b"w" * 16, 5, ["q"], 1, []),
    "DONE without jobs": pack(1, wire.DONE, SESSION, 1),
    "DONE with too many jobs": pack(1, wire.DONE, SESSION, 1, [[1, 1, None]] * 4097),
    "FAIL of an unknown kind": pack(1, wire.FAIL, SESSION, 1, [[1, 1, "whatever", "x"]]),
    "CREDIT that is text": pack(1, wire.CREDIT, SESSION, "many"),
}
OTHERS = {
    "version 2": (pack(2, wire.HEARTBEAT, SESSION), "version"),
    "version 0": (pack(0, wire.HEARTBEAT, SESSION), "version"),
    "version 2 with another layout": (pack(2, {"type": "HELLO"}, "text"), "version"),
    "version 2 and nothing else": (pack(2), "version"),
    "version 2 and bytes that are no msgpack": (b"\x92\x02\xc1", "version"),
    "type 99": (pack(1, 99, SESSION), "unknown_type"),
    "type 2^60": (pack(1, 2**60, SESSION), "unknown_type"),
    "a message of the broker's": (pack(1, wire.WELCOME, SESSION, {}, []), "unknown_type"),
}
WRONG_PORT = {
    "frontend": pack(1, wire.REGISTER, SESSION, b"w" * 16, "n", ["q"], 1, []),
    "backend": pack(1, wire.HELLO, SESSION, b"p" * 16),
}


class ForeignFramesTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.under_test = self.broker("--max-job-size", "64KiB").start()
        self.assert_serves()
        self.rss = self.under_test.rss()

    def tearDown(self):
        self.assertTrue(self.under_test.running(), "the broker died")
        self.assert_serves()

    def assert_serves(self):
        """A job goes through, from a producer and a worker that behave."""
        broker = self.under_test
        producer = wire.Producer(broker.frontend)
        worker = wire.Worker(broker.backend, ["probe"], lambda *_: b"served")
        self.addCleanup(producer.vanish)
        self.addCleanup(worker.vanish)
        [seq] = producer.submit("probe", [b""], report="result")
        producer.confirm_all()
        job = producer.confirmed[seq][0]
        wait_until(lambda: worker.step() or producer.step() or producer.outcomes, interval=0)
        self.assertEqual(producer.outcomes[job][2], b"served")
        worker.leave()

    def assert_not_grown(self, mib=48):
        if not harness.SANITIZED:  # their quarantine keeps what was freed
            self.assertLess((self.under_test.rss() - self.rss) / MIB, mib, "the broker has grown by so many MiB")

    def ports(self):
        return {"frontend": self.under_test.frontend, "backend": self.under_test.backend}

    def assert_error(self, endpoint, frame, code):
        raw = Raw(self, endpoint)
        raw.send(frame)
        kind, _, got, message, *_ = raw.answer()
        self.assertEqual((kind, got), (wire.ERROR, code), message)
        self.assertTrue(message)
        raw.socket.close()

    def test_malformed_frames_are_errors_on_both_ports(self):
        for port, endpoint in self.ports().items():
            for what, frame in MALFORMED.items():
                with self.subTest(port=port, what=what):
                    self.assert_error(endpoint, frame, "malformed")
        self.assert_not_grown()

    def test_fields_of_the_wrong_form_are_errors(self):
        for endpoint, frames in ((self.under_test.frontend, FRONTEND), (self.under_test.backend, BACKEND)):
            for what, frame in frames.items():
                with self.subTest(what=what):
                    self.assert_error(endpoint, frame, "malformed")

    def test_versions_types_and_ports_are_told_apart(self):
        for port, endpoint in self.ports().items():
            for what, (frame, code) in OTHERS.items():
                with self.subTest(port=port, what=what):
                    self.assert_error(endpoint, frame, code)
            with self.subTest(port=port, what="the other port's message"):
                self.assert_error(endpoint, WRONG_PORT[port], "wrong_port")

    def test_an_error_names_the_session_and_what_the_frame_was_about(self):
        for endpoint, frame, about in (
                (self.under_test.frontend, pack(1, wire.SUBMIT, SESSION, 1, 5, "q", {}, [7]), ["seq", 5]),
                (self.under_test.backend, pack(1, wire.DONE, SESSION, 6, 7), ["batch", 6])):
            raw = Raw(self, endpoint)
            raw.send(frame)
            kind, session, code, message, got = raw.answer()
            self.assertEqual((kind, session, code, got), (wire.ERROR, SESSION, "malformed", about))
            self.assertIn(str(about[1]), message)
        raw.send(pack(2, "REGISTER", SESSION, {}))
        self.assertEqual(raw.answer()[:3], [wire.ERROR, SESSION, "version"])

    def test_several_frames_are_one_error(self):
        for port, endpoint in self.ports().items():
            with self.subTest(port=port):
                raw = Raw(self, endpoint)
                raw.send(b"", pack(1, wire.HEARTBEAT, SESSION))  # as a REQ socket would
                self.assertEqual(raw.answer()[2], "malformed")
                raw.send(*[b"x" * KIB] * 1000)
                self.assertEqual(raw.answer()[2], "malformed")
                raw.send(pack(1, wire.HEARTBEAT, SESSION))
                self.assertEqual(raw.answer()[0], wire.REREGISTER, "and the connection still serves")
        self.assert_not_grown()

    def test_an_unknown_session_is_told_to_begin_again(self):
        for port, endpoint in self.ports().items():
            with self.subTest(port=port):
                raw = Raw(self, endpoint)
                raw.send(pack(1, wire.HEARTBEAT, SESSION))
                self.assertEqual(raw.answer()[:2], [wire.REREGISTER, SESSION])
        raw = Raw(self, self.under_test.frontend)
        raw.send(pack(1, wire.SUBMIT, SESSION, 1, 1, "q", {}, [b"no hello before"]))
        self.assertEqual(raw.answer()[:2], [wire.REREGISTER, SESSION])
        self.assertEqual(self.under_test.jobs()["ready"], 0)

    def test_random_bytes(self):
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for endpoint in self.ports().values():
            raw = Raw(self, endpoint)
            for _ in range(2000):
                raw.send(chance.randbytes(chance.randrange(200)))
            # Valid frames with one byte changed.
            valid = [*FRONTEND.values(), *BACKEND.values(), *WRONG_PORT.values()]
            for _ in range(2000):
                frame = bytearray(chance.choice(valid)[:4096])
                frame[chance.randrange(len(frame))] = chance.randrange(256)
                raw.send(bytes(frame))
            raw.send(pack(2, wire.HEARTBEAT, SESSION))
            wait_until(lambda: raw.answer()[2:3] == ["version"], what="the answer to the last frame", interval=0)
        self.assert_not_grown()

    def test_a_frame_above_the_limit_closes_the_connection(self):
        for port, endpoint in self.ports().items():
            with self.subTest(port=port):
                raw = Raw(self, endpoint)
                monitor = raw.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                self.addCleanup(monitor.close)
                raw.send(pack(1, wire.HEARTBEAT, SESSION))
                raw.answer()
                for _ in range(20):
                    raw.send(pack(1, wire.SUBMIT, SESSION, 1, 1, "q", {}, [b"x" * (2 * MIB + 100)]))
                self.assertTrue(monitor.poll(int(harness.DEADLINE * 1000)), "the connection stays open")
                raw.socket.disable_monitor()
                raw.socket.close()
        self.assert_not_grown()

    def test_other_protocols_on_the_ports(self):
        greetings = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", os.urandom(5000), b"\xff" * 64,
                     # A ZMTP greeting and then a command that claims 2^63 bytes.
                     b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL".ljust(64, b"\0") + b"\x06" + struct.pack(">Q", 2**63) + b"x" * 100]
        for port in (self.under_test.frontend_port, self.under_test.backend_port):
            for greeting in greetings:
                for _ in range(20):
                    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as tcp:
                        tcp.sendall(greeting)
        self.assert_not_grown()

    def test_peers_that_send_and_never_read(self):
        # Each frame is answered; whoever never reads must not make the broker keep the answers.
        for endpoint in self.ports().values():
            deaf = Raw(self, endpoint)
            deaf.socket.setsockopt(zmq.SNDTIMEO, 200)
            deaf.socket.setsockopt(zmq.RCVHWM, 1)
            try:
                for _ in range(50_000):
                    deaf.send(pack(1, 99, SESSION))
            except zmq.Again:
                pass
        self.assert_serves()
        self.assert_not_grown()


class BadBrokerTest(harness.Case):
    """The other way round: a broker that sends what is not the protocol."""

    def test_a_flood_of_bad_frames_fills_no_log_of_a_producer(self):
        router = zmq.Context.instance().socket(zmq.ROUTER)
        self.addCleanup(router.close, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        process = harness.Process(self, "submit", [harness.BIN / "millrace-producer", "submit", "--broker",
                                                   f"127.0.0.1:{port}", "--queue", "q", "--connect-timeout", "2s",
                                                   "payload"]).start()
        self.assertTrue(router.poll(harness.DEADLINE * 1000))
        identity, hello = router.recv_multipart()
        for _ in range(1000):
            router.send_multipart([identity, b"bad"])
        version, _, session, *_ = wire.unpack(hello)
        router.send_multipart([identity, msgpack.packb([version, wire.ERROR, session, "version", "the end"])])
        self.assertNotEqual(process.wait(), 0)
        self.assertEqual(process.text().count("not a broker message"), 1, process.text()[:1000])


if __name__ == "__main__":
    unittest.main(verbosity=2)
