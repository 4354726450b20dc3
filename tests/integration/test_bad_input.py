"""What users get wrong: each has its exit code, and a message that names the thing and the remedy."""
import ctypes
import os
import re
import socket
import struct
import subprocess
import unittest
from pathlib import Path

import harness
from harness import BAD_DATA, CANT_CREATE, UNREACHABLE, USAGE

PROGRAMS = {"millrace-broker": "serve", "millrace-worker": "run", "millrace-producer": "submit"}


class FlagsTest(harness.Case):
    def test_unknown_flags_commands_and_values(self):
        for program, command in PROGRAMS.items():
            with self.subTest(program=program):
                self.assert_exit(self.run_program(program, command, "--frobnicate"), USAGE, "--frobnicate", "--help")
                self.assert_exit(self.run_program(program, "frobnicate"), USAGE, "frobnicate")
                self.assert_exit(self.run_program(program), USAGE, command)
                helped = self.run_program(program, command, "--help")
                self.assertEqual(helped.returncode, 0)
                self.assertIn(b"--", helped.stdout)
        for flag, value in (("--fsync", "sometimes"), ("--heartbeat", "soon"), ("--frontend", "nowhere"),
                            ("--max-job-size", "big"), ("--max-attempts", "0"), ("--max-attempts", "many"),
                            ("--backoff", "5m..1s"), ("--lease", "-1s"), ("--lease", "0s"), ("--max-job-size", "0"), ("--max-job-size", "65MiB"),
                            ("--backend", "tcp://127.0.0.1:5570")):
            with self.subTest(flag=flag, value=value):
                process = self.run_program("millrace-broker", "serve", "--data", self.dir / "d", f"{flag}={value}")
                self.assert_exit(process, USAGE, flag)
        self.assertFalse((self.dir / "d").exists(), "nothing is made when the flags are wrong")

    def test_values_that_would_mean_nothing(self):
        for flags in (("submit", "--spool", "", "x"), ("submit", "--joblog", "", "x"), ("submit", "--lines", ""),
                      ("load", "--ledger", ""), ("submit", "--key", "", "payload"), ("submit", "--key", "k" * 65, "payload"),
                      ("load", "--duration", "0s"), ("load", "--count", "0")):
            with self.subTest(flags=flags):
                process = self.run_program("millrace-producer", flags[0], "--queue", "q", *flags[1:])
                self.assert_exit(process, USAGE, flags[1])

    def test_no_token_is_not_an_empty_one(self):
        self.assert_exit(self.run_program("millrace-producer", "gateway", "--token-file", ""), USAGE, "--token-file", "empty")

    def test_what_runs_without_standard_streams_takes_no_file_for_one(self):
        broker = self.broker().start()
        self.worker(broker, "q=echo").start()
        joblog = self.dir / "joblog"
        lines = self.dir / "lines"
        lines.write_text("1\n2\n3\n")
        submit = [str(harness.BIN / "millrace-producer"), "submit", "--broker", f"127.0.0.1:{broker.frontend_port}",
                  "--queue", "q", "--wait", "--lines"]
        closed = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *submit, lines, "--joblog", joblog],
                                timeout=harness.DEADLINE, check=False)
        self.assertEqual(closed.returncode, harness.IO)
        self.assertNotIn("result", joblog.read_text())
        self.assertLessEqual(len(joblog.read_text().splitlines()), 4)
        reads = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *submit, "-"], timeout=harness.DEADLINE, check=False,
                               capture_output=True)
        self.assertEqual(reads.returncode, BAD_DATA, reads.stderr)
        for i in range(40):
            self.assertEqual(self.produce("submit", broker, "--queue", "q" * 100 + str(i), "x").returncode, 0)
        status = subprocess.run(["sh", "-c", f"{harness.BIN}/millrace-broker status --json --http {broker.http} >/dev/full"],
                                timeout=harness.DEADLINE, check=False, capture_output=True)
        self.assert_exit(status, harness.IO, "stdout")  # longer than a buffer
        for command in (["submit", "--help"], ["load", "--broker", f"127.0.0.1:{broker.frontend_port}", "--queue", "q",
                                               "--count", "10", "--json"]):
            with open("/dev/full", "wb") as full:
                said = subprocess.run([str(harness.BIN / "millrace-producer"), *command], stdout=full,
                                      stderr=subprocess.PIPE, timeout=harness.DEADLINE, check=False)
            self.assert_exit(said, harness.IO, "stdout")

    def test_a_limit_of_open_files_that_is_too_low(self):
        for program, command in PROGRAMS.items():
            limited = subprocess.run(["sh", "-c", 'ulimit -n 20 && exec "$@"', "sh", str(harness.BIN / program), command,
                                      *(["--queue", "q=echo"] if command == "run" else ["--data", self.dir / "d"]
                                        if command == "serve" else ["--queue", "q", "x"])],
                                     capture_output=True, timeout=harness.DEADLINE, check=False)
            self.assert_exit(limited, 78, "open files", "ulimit -n")

    def test_handlers_and_pools(self):
        for queue, word in (("q=frobnicate", "frobnicate"), ("q=sleep:never", "never"), ("q=exec:", "exec"),
                            ("q", "q"), ("=echo", "--queue"), ("no blanks=echo", "no blanks"), ("q=fail:200", "200")):
            with self.subTest(queue=queue):
                self.assert_exit(self.run_program("millrace-worker", "run", "--queue", queue), USAGE, word)
        for pool in ("fixed:0", "fixed:x", "several"):
            with self.subTest(pool=pool):
                process = self.run_program("millrace-worker", "run", "--queue", "q=echo", "--pool", pool)
                self.assert_exit(process, USAGE, "--pool")
        self.assert_exit(self.run_program("millrace-worker", "run"), USAGE, "--queue")
        twice = self.run_program("millrace-worker", "run", "--queue", "q=echo", "--queue", "q=echo")
        self.assert_exit(twice, USAGE, "q")


class NobodyThereTest(harness.Case):
    def test_an_unreachable_broker(self):
        [port] = harness.free_ports(1)
        process = self.run_program("millrace-broker", "status", "--http", f"127.0.0.1:{port}")
        self.assert_exit(process, UNREACHABLE, f"127.0.0.1:{port}")
        process = self.run_program("millrace-producer", "submit", "--broker", f"127.0.0.1:{port}", "--queue", "q",
                                   "--connect-timeout", "500ms", "payload")
        self.assert_exit(process, UNREACHABLE, f"127.0.0.1:{port}")

    def test_each_port_in_use(self):
        for flag in ("--frontend", "--backend", "--http"):
            with self.subTest(flag=flag), socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                broker = self.broker(flag, f"127.0.0.1:{port}", name=f"broker{flag}")
                process = self.run_program(*broker.command())
                self.assert_exit(process, CANT_CREATE, str(port), flag)


class DataDirectoryTest(harness.Case):
    def refuse(self, code, *words, data=None):
        broker = self.broker(data=data)
        process = self.run_program(*broker.command())
        self.assert_exit(process, code, *words)
        return process.stderr.decode()

    def test_places_where_none_can_be(self):
        self.refuse(CANT_CREATE, "missing/data", data=self.dir / "missing/data")
        (self.dir / "file").write_text("not a directory")
        self.refuse(CANT_CREATE, str(self.dir / "file"), data=self.dir / "file")
        self.refuse(CANT_CREATE, str(self.dir / "file/data"), data=self.dir / "file/data")
        # Root may write nearly everywhere, but not here.
        self.refuse(CANT_CREATE, "/proc/millrace-data", data="/proc/millrace-data")

    def test_one_that_another_broker_holds(self):
        holder = self.broker().start()
        second = self.broker(data=holder.data, name="second")
        self.assert_exit(self.run_program(*second.command()), CANT_CREATE, str(holder.pid), str(holder.data))
        self.assertEqual(holder.get("/readyz")[0], 200)
        # A killed broker leaves its LOCK behind; that holds nobody.
        holder.restart()

    def journal(self, jobs=300, large=0):
        """A stopped broker's data directory with some jobs in it; without large ones the broker carries
        the jobs of an old segment on, and the segment goes."""
        broker = self.broker(name="writer").start()
        if large:
            process = self.produce("submit", broker, "--queue", "q", "--lines", "-", stdin=(b"x" * 1_000_000 + b"\n") * large)
            self.assertEqual(process.returncode, 0, process.stderr)
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-",
                               stdin=b"".join(b"payload %d %s\n" % (i, b"x" * 500) for i in range(jobs)))
        self.assertEqual(process.returncode, 0, process.stderr)
        process = self.produce("submit", broker, "--queue", "q", "the last one")
        self.assertEqual(process.returncode, 0, process.stderr)
        broker.kill()
        return broker.data

    def test_another_format_version(self):
        data = self.journal(1)
        segment = sorted(data.glob("segment-*.mrj"))[-1]
        header = bytearray(segment.read_bytes()[:48])
        header[8:12] = struct.pack("<I", 77)
        patch(segment, 0, header + struct.pack("<Q", xxh3(header)))
        before = segment.read_bytes()
        self.refuse(BAD_DATA, "version 77", "versions 1 to 2", segment.name, data=data)
        self.assertEqual(segment.read_bytes(), before, "nothing is changed")
        patch(segment, 8, struct.pack("<I", 78))  # and its checksum is wrong
        self.refuse(BAD_DATA, "damaged", segment.name, data=data)

    def test_damage_before_confirmed_batches(self):
        data = self.journal()
        segment = sorted(data.glob("segment-*.mrj"))[-1]
        content = segment.read_bytes()
        batches = [at for at in range(4096, len(content), 4096) if content[at:at + 8] == b"MRBATCH1"]
        self.assertGreater(len(batches), 2)
        patch(segment, batches[1] + 64 + 5, bytes([content[batches[1] + 64 + 5] ^ 1]))
        damaged = segment.read_bytes()
        message = self.refuse(BAD_DATA, segment.name, str(batches[1]), data=data)
        self.assertRegex(message, re.compile("repair|back-?up|restore", re.IGNORECASE), "what to do is said")
        self.assertEqual(segment.read_bytes(), damaged, "nothing is changed")

    def test_a_torn_tail_is_dropped_and_no_reason_to_stop(self):
        data = self.journal()
        segment = sorted(data.glob("segment-*.mrj"))[-1]
        content = segment.read_bytes()
        last = content.index(b"the last one") // 4096 * 4096
        self.assertEqual(content[last:last + 8], b"MRBATCH1")
        with open(segment, "r+b") as file:  # its commit was cut in the body, and none came after
            file.seek(last + 64 + 8)
            file.write(bytes(len(content) - last - 64 - 8))
        broker = self.broker(data=data).start()
        self.assertEqual(broker.jobs()["ready"], 300, "all but the job of the last commit")

    def test_a_segment_that_is_missing_or_foreign(self):
        data = self.journal(1, large=52)
        for _ in range(2):  # each start begins a new segment
            self.assertEqual(self.broker(data=data, name="starter").start().terminate(), 0)
        segments = sorted(data.glob("segment-*.mrj"))
        self.assertGreaterEqual(len(segments), 3)
        kept = segments[1].read_bytes()
        segments[1].unlink()
        self.refuse(BAD_DATA, "segment", data=data)
        segments[1].write_bytes(segments[0].read_bytes())
        self.refuse(BAD_DATA, segments[1].name, data=data)
        segments[1].write_bytes(kept)
        self.assertEqual(self.broker(data=data).start().jobs()["ready"], 2 + 52)


def xxh3(data):
    """The journal's checksum, by the library that the broker uses."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    return library.XXH3_64bits(bytes(data), ctypes.c_size_t(len(data)))


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


class PayloadTest(harness.Case):
    def test_a_payload_above_the_limit(self):
        broker = self.broker("--max-job-size", "1KiB").start()
        process = self.produce("submit", broker, "--queue", "q", "x" * 1025)
        self.assert_exit(process, BAD_DATA, "1025", "1024")
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", stdin=b"ok\n" + b"x" * 1025 + b"\nok\n")
        self.assert_exit(process, BAD_DATA)
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "x" * 1024).returncode, 0)

    def test_invalid_ndjson_names_its_line(self):
        broker = self.broker().start()
        for bad in (b'{"never": "ends', b"not json", b"1 2", b'{"a":1}{"b":2}', b'"\xff"'):
            with self.subTest(line=bad):
                stdin = b'{"payload": "fine"}\n"fine too"\n' + bad + b"\n"
                process = self.produce("submit", broker, "--queue", "q", "--ndjson", "-", stdin=stdin)
                self.assert_exit(process, BAD_DATA, "line 3")

    def test_files_that_are_not_there(self):
        broker = self.broker().start()
        for flag in ("--lines", "--ndjson"):
            process = self.produce("submit", broker, "--queue", "q", flag, self.dir / "nowhere")
            self.assertNotEqual(process.returncode, 0)
            self.assertIn(b"nowhere", process.stderr)
        self.assertNotEqual(self.produce("submit", broker, "--queue", "no blanks", "x").returncode, 0)

    def test_a_queue_name_that_is_none(self):
        broker = self.broker().start()
        process = self.produce("submit", broker, "--queue", "no blanks", "x")
        self.assertIn(process.returncode, (USAGE, BAD_DATA))
        self.assertIn(b"no blanks", process.stderr)


class AuditTest(harness.Case):
    def test_a_ledger_that_is_named_twice(self):
        self.assert_exit(self.run_program("millrace-producer", "audit", "--ledger", "a", "--ledger", "b", "--ledger", "a"),
                         USAGE, "--ledger", "a twice")

    def test_a_ledger_that_is_missing_or_damaged(self):
        broker = self.broker().start()
        missing = self.produce("audit", broker, "--ledger", self.dir / "nowhere")
        self.assertNotEqual(missing.returncode, 0)
        self.assertIn(b"nowhere", missing.stderr)
        Path(self.dir / "ledger").write_bytes(os.urandom(4000))
        self.assert_exit(self.produce("audit", broker, "--ledger", self.dir / "ledger"), BAD_DATA, "ledger")


if __name__ == "__main__":
    unittest.main(verbosity=2)
