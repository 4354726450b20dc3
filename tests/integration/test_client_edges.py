"""Producer programs beside a broker that is hostile or broken, and names that nobody resolves."""
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import msgpack
import zmq

import harness
import reference_client as wire

SETTINGS = {"broker": 0x3f9a1c07, "incarnation": 1, "heartbeat_ms": 1000, "liveness": 3, "max_job_size": 1 << 20,
            "window_jobs": 1000, "window_bytes": 1 << 20, "durability": "confirmed"}


class PlayedBroker(threading.Thread):
    """A frontend that answers every message of a client as it is told to: answer(kind, fields) returns
    the messages, each (type, field, ...), to send."""

    def __init__(self, case, answer):
        super().__init__(daemon=True)
        self.answer = answer
        self.ended = threading.Event()
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 1000)  # what a flood finds full is dropped
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1", 20000, 32000)
        case.addCleanup(self.end)
        self.start()

    def end(self):
        self.ended.set()
        self.join()
        self.socket.close()

    def run(self):
        while not self.ended.is_set():
            if not self.socket.poll(50):
                continue
            route, frame = self.socket.recv_multipart()
            _, kind, session, *fields = msgpack.unpackb(frame, unicode_errors="replace", strict_map_key=False)
            for number, *more in self.answer(kind, fields):
                self.socket.send_multipart([route, wire.pack(wire.VERSION, number, session, *more)])


def welcome(kind):
    if kind == wire.HELLO:
        return [(wire.WELCOME, SETTINGS, [])]
    return [(wire.HEARTBEAT,)] if kind == wire.HEARTBEAT else []


class HostileBrokerTest(harness.Case):
    def produce_at(self, broker, command, *flags):
        return self.run_program("millrace-producer", command, "--broker", f"127.0.0.1:{broker.port}", *flags)

    def test_a_text_is_one_line_that_no_terminal_obeys(self):
        text = "no\r\nmillrace-producer: all is well\x1b[2J\x9b31m\u202e"

        def reject(kind, fields):
            if kind == wire.SUBMIT:
                return [(wire.REJECT, [[fields[1], 1, text, 0, text]])]
            return welcome(kind)

        def refuse(kind, _):
            return [(wire.ERROR, "not_yours", text, None)] if kind == wire.HELLO else []

        broken = [PlayedBroker(self, answer) for answer in (reject, refuse)]
        log = self.dir / "joblog"
        ended = [self.produce_at(broken[0], "submit", "--queue", "q", "--joblog", log, "x"),
                 self.produce_at(broken[0], "load", "--queue", "q", "--count", "1"),
                 self.produce_at(broken[1], "submit", "--queue", "q", "--connect-timeout", "1s", "x")]
        self.assertIn(b"1 of 1 payloads were rejected: ", ended[0].stderr)
        for process in ended:
            self.assertNotEqual(process.returncode, 0)
            output = (process.stderr + process.stdout).decode()
            self.assertNotIn("\nmillrace-producer: all is well", output)
            self.assertEqual([c for c in output if c != "\n" and not c.isprintable()], [], output)
        self.assertEqual(len(log.read_text().splitlines()), 2)
        self.assertEqual([c for c in log.read_text() if c not in "\n\t" and not c.isprintable()], [])

    def test_a_flood_of_errors_is_a_few_lines(self):
        """It was 63 MB of log in 5 s."""
        errors = [(wire.ERROR, "not_yours", "y" * 900, None)] * 2000
        floods = {"before the welcome": lambda kind, _: errors if kind == wire.HELLO else [],
                  "behind it": lambda kind, _: welcome(kind) + errors}
        for name, flood in floods.items():
            for command, more in (("submit", ("x",)), ("load", ("--count", "1"))):
                with self.subTest(name=name, command=command):
                    broken = PlayedBroker(self, flood)
                    process = self.produce_at(broken, command, "--queue", "q", *more, "--connect-timeout", "1s",
                                              "--timeout", "1s")
                    self.assertNotEqual(process.returncode, 0)
                    self.assertLess(len(process.stderr), 16 << 10)


class SilentResolverTest(harness.Case):
    """In a network of its own, whose name server takes each question and answers none."""

    def test_time_limits_and_signals_hold(self):
        flags = ["--user", "--map-root-user", "--net", "--mount"]
        if subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("namespaces are not allowed here")
        inside = subprocess.run(["unshare", *flags, sys.executable, __file__, "inside", str(self.dir)],
                                capture_output=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(inside.returncode, 0, inside.stderr.decode())
        for name, (code, seconds, text) in json.loads(inside.stdout).items():
            with self.subTest(name=name):
                limited = "stopped" not in name
                self.assertEqual(code, harness.UNREACHABLE if limited else code, text)
                self.assertLess(seconds, 2.0 if limited else 1.0, text)
                self.assertNotEqual(code, -signal.SIGKILL, text)


class Inside:
    NAME = "broker.example.test"

    def __init__(self, directory):
        self.dir = Path(directory)
        (self.dir / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:5\n")
        (self.dir / "ledger").write_text('{"producer":"30313233343536373839616263646566"}\n')
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["mount", "--bind", self.dir / "resolv.conf", "/etc/resolv.conf"], check=True)
        self.questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.questions.bind(("127.0.0.77", 53))

    def start(self, program, command, *flags):
        child = subprocess.Popen([harness.BIN / program, command, "--broker", self.NAME, *flags], stderr=subprocess.PIPE,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.questions.recv(512)  # it has asked for the name
        return child

    def wait(self, child, started):
        try:
            _, text = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            _, text = child.communicate()
        return child.returncode, time.monotonic() - started, text.decode(errors="replace")

    def run(self):
        producer, worker = "millrace-producer", "millrace-worker"
        programs = {"submit": (producer, "submit", "--queue", "q", "x"),
                    "load": (producer, "load", "--queue", "q", "--count", "1"),
                    "audit": (producer, "audit", "--ledger", self.dir / "ledger"),
                    "gateway": (producer, "gateway", "--http", "127.0.0.1:5590"),
                    "worker": (worker, "run", "--queue", "q=echo")}
        ends = {}
        for name, words in programs.items():
            if name != "gateway":
                started = time.monotonic()
                ends[name] = self.wait(self.start(*words, "--connect-timeout", "1s"), started)
            child = self.start(*words)
            started = time.monotonic()
            child.send_signal(signal.SIGTERM)
            ends[name + ", stopped"] = self.wait(child, started)
        print(json.dumps(ends))


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        Inside(sys.argv[2]).run()
    else:
        unittest.main()
