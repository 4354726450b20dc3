"""The way without a queue: `millrace-worker direct`, under a load that it can't carry."""
import http.client
import json
import subprocess
import unittest

import harness
from harness import CANT_CREATE, USAGE, free_ports, wait_until

CONFIGURATION = 78


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
