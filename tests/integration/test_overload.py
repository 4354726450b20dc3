"""The way without a queue, `millrace-worker direct`, under a load that it can't carry; and the scripts that
show both ways."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path

import harness
from harness import CANT_CREATE, USAGE, free_ports, wait_until

CONFIGURATION = 78
SCRIPTS = harness.ROOT / "scripts"


class DirectTest(harness.Case):
    def direct(self, handler, *flags):
        self.port = free_ports(1)[0]
        process = harness.Process(self, "direct", [harness.BIN / "millrace-worker", "direct", "--http",
                                                   f"127.0.0.1:{self.port}", "--handler", handler, *flags]).start()
        wait_until(lambda: "serving without a queue" in process.text(), what="the server being there")
        return process

    def load(self, *flags):
        process = subprocess.run([harness.BIN / "millrace-http-load", "post", "--http", f"127.0.0.1:{self.port}",
                                  "--json", *map(str, flags)], capture_output=True, timeout=60, check=False)
        return process.returncode, json.loads(process.stdout)

    def test_one_connection_carries_many_requests(self):
        self.direct("echo")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.connect()
        own = connection.sock.getsockname()
        for i in range(20):
            connection.request("POST", "/v1/queues/q/jobs", body=f"job {i}")
            answer = connection.getresponse()
            self.assertEqual((answer.status, json.loads(answer.read())["result"]), (200, f"job {i}"))
        self.assertEqual(connection.sock.getsockname(), own, "kept alive")
        connection.close()

    def test_a_load_that_it_can_carry_is_answered(self):
        process = self.direct("sleep:1ms")
        code, report = self.load("--rate", 50, "--duration", "2s", "--timeout", "20s")
        self.assertEqual((code, report["offered"], report["answered"]), (0, 100, 100))
        self.assertEqual(process.terminate(), 0)
        self.assertIn("done=100", process.text())

    def test_what_it_can_not_carry_is_lost_and_run_in_vain(self):
        process = self.direct("sleep:20ms")  # 50 a second
        code, report = self.load("--rate", 1000, "--duration", "2s", "--timeout", "500ms")
        self.assertEqual((code, report["offered"]), (1, 2000))
        self.assertLess(report["answered"], 400)
        self.assertEqual(report["answered"] + report["timed_out"] + report["cut"], 2000)
        self.assertEqual(len(report["per_second"]), 2)
        # It is alive, and serves whoever comes when the load is over.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE)
        connection.request("GET", "/v1/status")
        totals = json.loads(connection.getresponse().read())["totals"]
        connection.close()
        self.assertGreaterEqual(totals["done"], report["answered"])
        self.assertEqual(process.terminate(), 0)

    def test_requests_come_one_after_the_other(self):
        self.direct("sleep:50ms")
        code, report = self.load("--rate", 1000, "--duration", "10ms", "--timeout", "20s")  # 10 at a time
        self.assertEqual((code, report["answered"]), (0, 10))
        self.assertGreater(report["latency_ms"]["max"], 450)

    def test_a_long_handler_does_not_hold_up_the_stop(self):
        process = self.direct("sleep:1h")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/v1/queues/q/jobs", body="x")
        self.assertEqual(process.terminate(), 0)
        connection.close()

    def test_bad_flags(self):
        def direct(*flags):
            return self.run_program("millrace-worker", "direct", *flags)
        self.assert_exit(direct(), USAGE, "--handler")
        self.assert_exit(direct("--handler", "ecko"), USAGE, "ecko", "echo")
        self.assert_exit(direct("--handler", "echo", "--backlog", "0"), USAGE, "--backlog")
        self.assert_exit(direct("--handler", "echo", "--http", "0.0.0.0:5595"), CONFIGURATION, "loopback")
        self.direct("echo")
        self.assert_exit(direct("--handler", "echo", "--http", f"127.0.0.1:{self.port}"), CANT_CREATE, "--http")


class ScriptTest(harness.Case):
    def start(self, name, *arguments):
        self.port = free_ports(1)[0]
        process = subprocess.Popen([SCRIPTS / name, *map(str, arguments), "--port-base", str(self.port), "--dir", self.dir],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "MILLRACE_BIN": str(harness.BIN)})
        self.addCleanup(self.stop, process)
        return process

    def stop(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

    def script(self, name, *arguments):
        with self.start(name, *arguments) as process:
            output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors

    def left(self):
        """Processes that know one of the ports."""
        names = [f"127.0.0.1:{self.port + offset}".encode() for offset in (0, 1, 10, 12)]
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if any(name in line for name in names):
                    found.append(entry.name)
            except OSError:
                continue
        return found

    @unittest.skipIf(harness.SANITIZED, "the figures are those of a release")
    def test_the_same_load_loses_without_a_queue_and_not_with_one(self):
        picture = self.dir / "picture.svg"
        drawn = ("--svg", picture) if shutil.which("gnuplot") else ()
        code, output, errors = self.script("overload-demo.sh", "--systems", "direct,fixed", "--seconds", 3, "--rate", 200,
                                           "--handler", "sleep:20ms", "--json", *drawn)
        self.assertEqual(code, 0, errors)
        report = json.loads(output)
        direct, queued = report["records"]
        self.assertEqual((direct["offered"], queued["offered"]), (600, 600))
        self.assertGreater(direct["lost"], 200)
        self.assertEqual(direct["answered"] + direct["lost"], 600)
        self.assertEqual((queued["answered"], queued["done"], queued["lost"], queued["unfinished"]), (600, 600, 0, 0))
        self.assertEqual(queued["statuses"], {"202": 600})
        if drawn:
            self.assertIn("</svg>", picture.read_text())
        self.assertEqual((self.left(), list(self.dir.glob("overload.*"))), ([], []))

    def test_it_leaves_nothing_when_it_is_stopped(self):
        process = self.start("overload-demo.sh", "--systems", "fixed", "--seconds", 60, "--rate", 100)
        wait_until(lambda: len(self.left()) >= 4, what="broker, worker, gateway and load")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 143)
        wait_until(lambda: not self.left(), what="everything being gone")
        process.communicate()

    def test_a_handler_that_there_is_not_is_told(self):
        code, _, errors = self.script("overload-demo.sh", "--systems", "direct", "--seconds", 1, "--handler", "ecko")
        self.assertEqual(code, 69)
        self.assertIn("ecko", errors)

    @unittest.skipUnless(Path("/usr/share/jmeter").is_dir(), "scripts/setup.sh --jmeter installs it")
    @unittest.skipIf(harness.SANITIZED, "the figures are those of a release")
    def test_jmeter_counts_what_the_gateway_answers(self):
        code, output, errors = self.script("jmeter.sh", "--loops", 20, "--systems", "gateway", "--json")
        self.assertEqual(code, 0, errors)
        [gateway] = json.loads(output)["records"]
        self.assertEqual((gateway["planned"], gateway["codes"], gateway["done"], gateway["lost"]),
                         (2000, {"202": 2000}, 2000, 0))
        self.assertEqual(self.left(), [])


class VerdictTest(harness.Case):
    """The reports on what was measured: each hole is found."""
    GATEWAY = {"system": "gateway", "planned": 10, "unsent": 0, "sent": 10, "answered": 10, "timed_out": 0,
               "codes": {"202": 10}, "seconds": 1.0, "rate": 10, "median_rate": 10, "confirmed": 10, "done": 10,
               "unfinished": 0, "lost": 0, "elapsed_ms": {"p50": 1, "p90": 1, "p99": 1, "max": 1}, "per_second": []}
    QUEUED = {"system": "auto", "offered": 10, "answered": 10, "timed_out": 0, "refused": 0, "unreachable": 0, "cut": 0,
              "done": 10, "unfinished": 0, "lost": 0, "latency_ms": {"p50": 1, "p99": 1}, "drain_seconds": 0,
              "peak_threads": 9, "per_second": []}

    def setUp(self):
        super().setUp()
        sys.path.insert(0, str(SCRIPTS / "bench"))
        self.addCleanup(sys.path.remove, str(SCRIPTS / "bench"))

    def test_jmeter(self):
        from jmeter import verdict
        self.assertTrue(verdict([self.GATEWAY])[1])
        for change in ({"done": 9}, {"answered": 9}, {"codes": {"202": 9, "503": 1}}, {"lost": 1}, {"unfinished": 1},
                       {"planned": 11}):
            with self.subTest(change=change):
                text, good = verdict([{**self.GATEWAY, **change}])
                self.assertEqual((text.startswith("FAILED"), good), (True, False))
        self.assertTrue(verdict([{**self.GATEWAY, "system": "direct", "lost": 9}])[1])

    def test_overload(self):
        from overload import verdict
        self.assertTrue(verdict([self.QUEUED])[1])
        lines, good = verdict([{**self.QUEUED, "lost": 1}])
        self.assertEqual((lines[0].startswith("FAILED"), good), (True, False))
        self.assertTrue(verdict([{**self.QUEUED, "system": "direct", "lost": 9}])[1])

    def test_samples_of_jmeter(self):
        from jmeter import count
        row = {"timeStamp": "1000", "elapsed": "5", "responseCode": "202", "responseMessage": "Accepted", "success": "true"}
        late = {**row, "timeStamp": "2500", "elapsed": "1000", "success": "false", "responseMessage": "Read timed out",
                "responseCode": "Non HTTP response code: java.net.SocketTimeoutException"}
        full = {**row, "responseCode": "503", "responseMessage": "No", "success": "false"}
        seen = count([row, row, late, full])
        self.assertEqual((seen["sent"], seen["answered"], seen["timed_out"], seen["seconds"]), (4, 2, 1, 2.5))
        self.assertEqual(seen["codes"], {"202": 2, "time-out": 1, "503": 1})
        self.assertEqual([second["sent"] for second in seen["per_second"]], [3, 1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
