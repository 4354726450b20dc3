"""The spool: what comes while the broker is away is on this machine's disk, and is forwarded in order, each once."""
import http.client
import json
import subprocess
import threading
import unittest

import harness
from harness import BAD_DATA, CANT_CREATE, TIMED_OUT, UNREACHABLE, USAGE, scaled, wait_until


class SpoolTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.spool = self.dir / "spool"
        self.witness = self.dir / "witness"

    def submit(self, broker, *flags, stdin=None):
        return self.produce("submit", broker, "--queue", "q", "--spool", self.spool, *flags, stdin=stdin, deadline=120)

    def forward(self, broker, *flags):
        return self.produce("forward", broker, "--spool", self.spool, "--json", *flags)

    def write_down(self, broker):
        """A worker of one thread that writes each payload it runs into the witness, in order."""
        return self.worker(broker, f"q=exec:cat >> {self.witness}; echo >> {self.witness}", pool="single").start()

    def executed(self):
        return harness.read_lines(self.witness)

    def numbers(self, first, count):
        return "".join(f"{i}\n" for i in range(first, first + count)).encode()

    def accepted(self, broker):
        return broker.status()["totals"]["accepted"]

    # ---- submit

    def test_what_was_submitted_while_the_broker_was_away_comes_first_and_in_order(self):
        broker = self.broker()
        away = self.submit(broker, "--lines", "-", stdin=self.numbers(1, 40))
        self.assertEqual((away.returncode, away.stdout), (0, b"spooled\n" * 40), away.stderr)
        self.assertIn(b"forward", away.stderr)
        more = self.submit(broker, "--lines", "-", "--json", stdin=self.numbers(41, 10))
        self.assertEqual(json.loads(more.stdout)["spooled"], 10)
        broker.start()
        back = self.submit(broker, "--lines", "-", "--json", stdin=self.numbers(51, 10))
        report = json.loads(back.stdout)
        self.assertEqual((back.returncode, report["confirmed"], report["spooled"], report["forwarded"]), (0, 10, 0, 50))
        self.write_down(broker)
        wait_until(lambda: len(self.executed()) >= 60, what="all being run")
        self.assertEqual(self.executed(), [str(i) for i in range(1, 61)])
        self.assertEqual(json.loads(self.forward(broker).stdout), {"forwarded": 0, "rejected": 0, "left": 0})
        self.assertEqual(self.accepted(broker), 60)

    def test_the_broker_is_killed_in_the_middle(self):
        """What was sent and not answered is in the spool under its own sequence: no second job, and nothing unknown."""
        broker = self.broker().start()
        count = scaled(300_000)
        lines = self.dir / "lines"
        lines.write_bytes(self.numbers(1, count))
        run = harness.Process(self, "submit", [harness.BIN / "millrace-producer", "submit", "--broker",
                                               f"127.0.0.1:{broker.frontend_port}", "--queue", "q", "--spool", self.spool,
                                               "--lines", lines, "--json"]).start()
        wait_until(lambda: self.accepted(broker) > 0, what="the first jobs", interval=0.001)
        broker.kill()
        self.assertEqual(run.wait(60), 0, run.text())
        report = run.report()
        self.assertEqual(report["confirmed"] + report["spooled"], count)
        self.assertEqual((report["unknown"], report["rejected"]), (0, 0))
        broker.start()
        left = self.forward(broker)
        self.assertEqual(left.returncode, 0, left.stderr)
        self.assertEqual(json.loads(left.stdout)["left"], 0)
        self.assertEqual(self.accepted(broker), count)

    def test_kill_9_of_producer_and_broker_again_and_again(self):
        broker = self.broker().start()
        total, each = 0, scaled(100_000)
        for round_number in range(5):
            lines = self.dir / f"lines{round_number}"
            lines.write_bytes(self.numbers(total + 1, each))
            submit = [harness.BIN / "millrace-producer", "submit", "--broker", f"127.0.0.1:{broker.frontend_port}", "--queue",
                      "q", "--spool", self.spool, "--lines", lines]
            before = self.accepted(broker) if broker.running() else 0
            run = harness.Process(self, f"submit{round_number}", submit).start()
            if round_number % 2 == 0:
                wait_until(lambda: self.accepted(broker) > before, what="jobs", interval=0.001)
                broker.kill()
                self.assertEqual(run.wait(60), 0, run.text())  # so all of it is safe
                broker.start()
                forwarding = harness.Process(self, f"forward{round_number}", [
                    harness.BIN / "millrace-producer", "forward", "--broker", f"127.0.0.1:{broker.frontend_port}",
                    "--spool", self.spool]).start()
                forwarding.kill()
                broker.restart()
            else:
                self.assertEqual(run.wait(60), 0, run.text())
            total += each
        left = self.forward(broker)
        self.assertEqual(left.returncode, 0, left.stderr)
        self.assertEqual(self.accepted(broker), total)

    def test_waiting_for_results_goes_on_when_the_broker_is_back(self):
        broker = self.broker()
        worker = self.worker(broker, "q=echo")
        run = harness.Process(self, "submit", [harness.BIN / "millrace-producer", "submit", "--broker",
                                               f"127.0.0.1:{broker.frontend_port}", "--queue", "q", "--spool", self.spool,
                                               "--wait", "hello"]).start()
        wait_until(lambda: any(self.spool.glob("*/segment-*")) and run.running(), what="the spool")
        broker.start()
        worker.start()
        self.assertEqual(run.wait(), 0, run.text())
        self.assertEqual(run.report()["result"], "hello")

    def test_a_full_spool_ends_submit_with_75_and_keeps_what_it_has(self):
        broker = self.broker()
        payload = b"x" * 1000 + b"\n"
        full = self.submit(broker, "--lines", "-", "--spool-size", "1MiB", "--json", stdin=payload * 2000)
        self.assert_exit(full, TIMED_OUT, "the spool", "is full", "--spool-size")
        broker.start()
        report = json.loads(self.forward(broker).stdout)
        self.assertGreater(report["forwarded"], 900)
        self.assertLess(report["forwarded"], 1100)
        self.assertIn(f"{report['forwarded']} in the spool", full.stderr.decode())
        self.assertEqual(self.accepted(broker), report["forwarded"])

    def test_a_spool_that_the_last_line_fills_is_no_failure(self):
        broker, line = self.broker(), b"x" * (2**18 - 64) + b"\n"  # 64 bytes are counted for each submission
        filled = self.submit(broker, "--lines", "-", "--spool-size", "1MiB", stdin=line * 4)
        self.assertEqual((filled.returncode, filled.stdout), (0, b"spooled\n" * 4), filled.stderr)
        self.assert_exit(self.submit(broker, "--spool-size", "1MiB", "one more"), TIMED_OUT, "is full", "--spool-size")
        broker.start()
        self.assertEqual(json.loads(self.forward(broker).stdout)["forwarded"], 4)
        self.spool = self.dir / "other"
        broker.kill()
        most = 2**20 - 64
        one = self.submit(broker, "--spool-size", "1MiB", stdin=b"x" * most)
        self.assertEqual((one.returncode, one.stdout), (0, b"spooled\n"), one.stderr)

    def test_what_a_spool_can_never_hold_is_refused(self):
        broker, large = self.broker(), b"x" * (2**20 - 63)
        refused = self.submit(broker, "--spool-size", "1MiB", stdin=large)
        self.assert_exit(refused, BAD_DATA, "1048577 bytes", "--spool-size")
        behind = self.submit(broker, "--lines", "-", "--spool-size", "1MiB", stdin=b"small\n" + large + b"\n")
        self.assert_exit(behind, BAD_DATA, "stdin line 2", "--spool-size", "1 in the spool")
        self.assertEqual(behind.stdout, b"spooled\n")
        broker.start()
        straight = self.submit(broker, "--spool-size", "1MiB", "--json", stdin=large)
        self.assertEqual(json.loads(straight.stdout)["confirmed"], 1, straight.stderr)
        self.assertEqual(self.accepted(broker), 2)

    def test_what_is_in_the_spool_at_the_time_out_is_told(self):
        broker = self.broker()
        soon = self.submit(broker, "--lines", "-", "--timeout", "300ms", stdin=self.numbers(1, 3))
        self.assertEqual((soon.returncode, soon.stdout), (0, b"spooled\n" * 3), soon.stderr)
        waiting = self.submit(broker, "--lines", "-", "--wait", "--timeout", "300ms", stdin=self.numbers(4, 2))
        self.assert_exit(waiting, TIMED_OUT, "2 in the spool")
        broker.start()
        self.assertEqual(json.loads(self.forward(broker).stdout)["forwarded"], 5)

    def test_with_room_made_by_the_broker_a_full_spool_goes_on(self):
        broker = self.broker()
        self.submit(broker, "--lines", "-", "--spool-size", "1MiB", stdin=(b"x" * 1000 + b"\n") * 2000)
        broker.start()
        run = self.submit(broker, "--lines", "-", "--spool-size", "1MiB", "--json", stdin=(b"y" * 1000 + b"\n") * 3000)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(json.loads(run.stdout)["confirmed"], 3000)

    def test_what_the_broker_will_never_take_is_kept_for_people(self):
        broker = self.broker("--max-job-size", "1KiB")
        self.assertEqual(self.submit(broker, "--lines", "-", stdin=b"small\n" + b"x" * 2000 + b"\nlast\n").returncode, 0)
        broker.start()
        run = self.forward(broker)
        self.assert_exit(run, BAD_DATA, "rejected.ndjson")
        self.assertEqual(json.loads(run.stdout), {"forwarded": 2, "rejected": 1, "left": 0})
        [line] = [json.loads(text) for text in harness.read_lines(self.spool / "rejected.ndjson")]
        self.assertEqual((line["reason"], line["queue"], line["payload"]), ("too_large", "q", "x" * 2000))

    def test_answers_that_could_not_be_written_down_keep_the_broker_from_forgetting(self):
        """A disk that is full when the broker confirms: what is sent again by the next run is known there."""
        self.spool = self.small_disk(90)
        broker = self.broker()
        self.assertEqual(self.submit(broker, "--lines", "-", stdin=self.numbers(1, 3)).returncode, 0)
        forwarding = harness.Process(self, "forward", [harness.BIN / "millrace-producer", "forward", "--broker",
                                                       f"127.0.0.1:{broker.frontend_port}", "--spool", self.spool,
                                                       "--connect-timeout", "60s"]).start()
        wait_until(lambda: "run 2 " in (self.spool / "producer").read_text(), what="forward having the spool")
        ballast = self.spool / "ballast"
        with open(ballast, "wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
            except OSError:
                pass
        broker.start()
        wait_until(lambda: self.accepted(broker) == 3, what="the broker having all")
        forwarding.wait(60)
        ballast.unlink()
        self.assertEqual(self.forward(broker).returncode, 0)
        self.assertEqual(self.accepted(broker), 3)

    def small_disk(self, mebibytes):
        """A file system of its own, where that is allowed."""
        place = self.dir / "disk"
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "none", place], check=False,
                                 capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("mounting a file system is not allowed here")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=False)
        return place

    def test_a_tail_that_is_cut_off_is_said(self):
        gateway = self.gateway(self.broker()).start()
        wait_until(self.ready, what="the gateway")
        self.assertEqual(self.post("x")[0], 202)
        gateway.kill()
        [segment] = self.spool.glob("*/segment-*.mrj")
        content = bytearray(segment.read_bytes())
        content[len(content.rstrip(b"\0")) - 1] ^= 1
        segment.write_bytes(content)
        gateway.start()
        wait_until(self.ready, what="the gateway, again")
        self.assertIn("incomplete write", gateway.text())
        self.assertEqual(self.metric("spool_jobs"), 0)

    def test_the_gateway_says_that_the_spools_disk_is_full(self):
        self.spool = self.small_disk(40) / "spool"
        broker = self.broker()
        gateway = self.gateway(broker, "--answer-timeout", "2s").start()
        wait_until(self.ready, what="the gateway")
        self.assertEqual(self.post("x")[0], 202)
        ballast = self.spool.parent / "ballast"
        with open(ballast, "wb") as file, self.assertRaises(OSError):
            while True:
                file.write(b"x" * 65536)
                file.flush()
        stored = 1
        for _ in range(100):  # a segment is reserved, and has to be filled first
            if self.metric("spool_disk_full") == 1:
                break
            stored += self.post("x" * 900_000)[0] == 202
        status, answer = self.post("y")
        self.assertEqual((status, answer["type"]), (503, "urn:millrace:problem:spool-full"))
        self.assertIn("disk is full", answer["detail"])
        self.assertIn("disk is full", gateway.text())
        ballast.unlink()
        wait_until(self.ready, what="room")
        self.assertEqual(self.post("z")[0], 202)
        self.assertIn("has space again", gateway.text())
        broker.start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        self.assertGreaterEqual(self.accepted(broker), stored + 1)

    def test_usage(self):
        broker = self.broker()
        self.assert_exit(self.submit(broker, "--joblog", self.dir / "log", "x"), USAGE, "--spool", "--joblog")
        self.assert_exit(self.submit(broker, "--ledger", self.dir / "ledger", "x"), USAGE, "--spool", "--ledger")
        self.assert_exit(self.produce("forward", broker), USAGE, "--spool")
        self.assert_exit(self.produce("forward", broker, "--spool", self.dir / "nowhere"), BAD_DATA, "no spool", "nowhere")
        self.assertFalse((self.dir / "nowhere").exists())
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        self.assert_exit(self.produce("forward", broker, "--spool", elsewhere), BAD_DATA, "no spool")
        self.assertEqual(list(elsewhere.iterdir()), [])
        self.assert_exit(self.submit(broker, "--ttl", "10000000h", "x"), USAGE, "--ttl", "100 years")
        self.submit(broker, "x")
        self.assert_exit(self.forward(broker, "--connect-timeout", "200ms"), UNREACHABLE, "1 left")
        other = self.broker(name="other")
        self.assert_exit(self.forward(other), 78, str(broker.frontend_port), "1 submission", "--broker")

    # ---- the gateway

    def gateway(self, broker, *flags):
        [self.port] = harness.free_ports(1)
        return self.producer("gateway", broker, "--http", f"127.0.0.1:{self.port}", "--spool", self.spool, *flags,
                             name="gateway")

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, JSON or text); (0, None) while nobody listens or answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            is_json = "ndjson" not in (answer.getheader("Content-Type") or "") and text.startswith(b"{")
            return answer.status, json.loads(text) if is_json else text.decode()
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def post(self, body, query="", **headers):
        return self.request("POST", f"/v1/queues/q/jobs{query}", body, headers)

    def ready(self):
        return self.request("GET", "/readyz")[0] == 200

    def metric(self, name):
        text = self.request("GET", "/metrics")[1]
        [line] = [line for line in text.splitlines() if line.startswith(f"millrace_gateway_{name} ")]
        return int(line.split()[1])

    def test_the_gateway_takes_jobs_while_the_broker_is_away(self):
        broker = self.broker()
        gateway = self.gateway(broker).start()
        wait_until(self.ready, what="the gateway, which needs no broker with a spool")
        for i in range(1, 31):
            self.assertEqual(self.post(str(i)), (202, {"state": "spooled"}))
        self.assertEqual(self.metric("spool_jobs"), 30)
        lines = self.request("POST", "/v1/queues/q/jobs:batch", "31\nnot JSON\n32\n")[1].splitlines()
        self.assertEqual([json.loads(line)["status"] for line in lines], [202, 400, 202])
        self.assertEqual(json.loads(lines[0])["state"], "spooled")
        self.assertEqual(self.request("GET", "/v1/jobs/00000001-1")[0], 503)
        gateway.kill()
        gateway.start()
        wait_until(self.ready, what="the gateway, again")
        self.assertEqual(self.post("33"), (202, {"state": "spooled"}))
        broker.start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        self.assertEqual(self.metric("spool_forwarded_total"), 33)
        status, answer = self.post("34")
        self.assertEqual((status, answer["state"]), (202, "confirmed"))
        self.write_down(broker)
        wait_until(lambda: len(self.executed()) >= 34, what="all being run")
        self.assertEqual(self.executed(), [str(i) for i in range(1, 35)])
        self.assertEqual(gateway.terminate(), 0)

    def test_who_waits_for_the_end_gets_it_though_the_job_was_spooled(self):
        broker = self.broker()
        worker = self.worker(broker, "q=echo")
        self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        self.assertEqual(self.post("x", "?wait=100ms"), (202, {"state": "spooled"}))
        answers = []
        waiter = threading.Thread(target=lambda: answers.append(self.post("hello", "?wait=25s")))
        waiter.start()
        wait_until(lambda: self.metric("spool_jobs") == 2, what="both being spooled")
        broker.start()
        worker.start()
        waiter.join(harness.DEADLINE)
        [(status, job)] = answers
        self.assertEqual((status, job["state"], job["result"]), (200, "done", "hello"))

    def test_a_full_spool_is_503_and_takes_again_when_there_is_room(self):
        broker = self.broker()
        self.gateway(broker, "--spool-size", "1MiB").start()
        wait_until(self.ready, what="the gateway")
        stored, status = 0, 202
        while status == 202 and stored < 5000:
            status, answer = self.post("x" * 10_000)
            stored += status == 202
        self.assertEqual((status, answer["type"]), (503, "urn:millrace:problem:spool-full"))
        self.assertEqual(self.request("GET", "/readyz")[0], 503)
        broker.start()
        wait_until(self.ready, what="room")
        wait_until(lambda: self.accepted(broker) == stored, what="all that was stored")

    def test_no_parameter_ends_the_gateway(self):
        broker = self.broker()
        self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        for query in ("?ttl=10000000h", "?delay=10000000h", "?ttl=9223372036854775807ms"):
            self.assertEqual(self.post("x", query)[0], 400, query)
        self.assertEqual(self.post("x", "?ttl=1h&delay=5s&priority=9&max_attempts=255")[0], 202)

    def test_a_full_broker_is_like_one_that_is_away_to_what_comes_behind_the_spool(self):
        broker = self.broker("--max-queued", "1")
        self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        for i in range(150):
            self.assertEqual(self.post(str(i) * 300_000)[0], 202)
        broker.start()
        wait_until(lambda: broker.jobs()["ready"] == 1, what="the broker being full")
        wait_until(lambda: self.metric("brokers_connected") == 1, what="the connection")
        for _ in range(3):
            self.assertEqual(self.post("new"), (202, {"state": "spooled"}))
        self.worker(broker, "q=echo").start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        self.assertEqual(self.accepted(broker), 153)

    def test_a_key_is_one_job_whether_it_was_spooled_or_not(self):
        broker = self.broker()
        self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        for _ in range(3):
            self.assertEqual(self.post("x", **{"Idempotency-Key": "order-1"})[0], 202)
        broker.start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        again = self.post("x", **{"Idempotency-Key": "order-1"})[1]
        self.assertTrue(again["known"])
        self.assertEqual(self.accepted(broker), 1)

    def test_kill_9_of_gateway_and_broker_under_load(self):
        """Every 202 is one job; a request without an answer is one job at most."""
        broker = self.broker().start()
        gateway = self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        acknowledged, asked, stop = set(), [0], threading.Event()
        lock = threading.Lock()

        def client():
            while not stop.is_set():
                with lock:
                    asked[0] += 1
                    number = asked[0]
                if self.request("POST", "/v1/queues/q/jobs", str(number), timeout=10)[0] == 202:
                    with lock:
                        acknowledged.add(number)

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(3):
                level = len(acknowledged)
                wait_until(lambda: len(acknowledged) > level + 100, what="answers")
                broker.kill()
                wait_until(lambda: self.request("GET", "/readyz")[0] == 200 and self.metric("spool_jobs") > 50,
                           what="jobs in the spool")
                if turn % 2 == 0:
                    gateway.kill()
                    gateway.start()
                broker.start()
                wait_until(lambda: self.request("GET", "/readyz")[0] == 200 and self.metric("spool_jobs") == 0,
                           what="an empty spool")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(gateway.terminate(), 0)
        self.worker(broker, f"q=exec:read n; echo $n >> {self.witness}", pool="fixed:4").start()
        total = self.accepted(broker)
        broker.wait_jobs(done=total, ready=0, leased=0)
        ran = [int(line) for line in self.executed()]
        self.assertEqual(len(ran), len(set(ran)), "no submission became two jobs")
        self.assertEqual(acknowledged - set(ran), set(), "every 202 is a job")

    def test_one_process_at_a_time(self):
        broker = self.broker()
        gateway = self.gateway(broker).start()
        wait_until(self.ready, what="the gateway")
        self.assert_exit(self.submit(broker, "x"), CANT_CREATE, str(gateway.pid))

    def test_of_several_brokers_those_that_are_there_take_all(self):
        one, other = self.broker(name="one").start(), self.broker(name="other").start()
        [self.port] = harness.free_ports(1)
        gateway = harness.Process(self, "gateway", [
            harness.BIN / "millrace-producer", "gateway", "--broker",
            f"127.0.0.1:{one.frontend_port},127.0.0.1:{other.frontend_port}", "--http", f"127.0.0.1:{self.port}", "--spool",
            self.spool]).start()
        wait_until(self.ready, what="the gateway")
        one.kill()
        wait_until(lambda: self.metric("brokers_connected") == 1, what="the loss being seen")
        for _ in range(20):
            self.assertEqual(self.post("x")[1]["state"], "confirmed")
        self.assertEqual(self.accepted(other), 20)
        other.kill()
        wait_until(lambda: self.metric("brokers_connected") == 0, what="the other loss being seen")
        for _ in range(20):
            self.assertEqual(self.post("y"), (202, {"state": "spooled"}))
        one.start()
        other.start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        self.assertEqual(self.accepted(one) + self.accepted(other), 40)
        self.assertEqual(gateway.terminate(), 0)


    def test_a_lane_that_is_not_empty_takes_nothing_while_another_broker_is_free(self):
        full, free = self.broker("--max-queued", "1", name="full"), self.broker(name="free")
        lines = ["--broker", f"127.0.0.1:{full.frontend_port},127.0.0.1:{free.frontend_port}", "--queue", "q", "--spool",
                 self.spool]
        first = self.run_program("millrace-producer", "submit", *lines, "--lines", "-", stdin=self.numbers(1, 5000))
        self.assertEqual(first.stdout, b"spooled\n" * 5000, first.stderr)
        full.start()
        free.start()
        more = self.run_program("millrace-producer", "submit", *lines, "--lines", "-", "--json", "--timeout", "10s",
                                stdin=self.numbers(5001, 200_000), deadline=120)
        report = json.loads(more.stdout)
        self.assertEqual((more.returncode, report["confirmed"] + report["spooled"]), (0, 200_000), (more.stderr, report))
        # To the other went what was bound to it before it had said that it is full: 16,384.
        self.assertGreaterEqual(self.accepted(free), 175_000)

    def test_while_all_are_away_one_that_was_never_there_gets_nothing(self):
        broker = self.broker(name="one").start()
        [nobody, self.port] = harness.free_ports(2)
        gateway = harness.Process(self, "gateway", [
            harness.BIN / "millrace-producer", "gateway", "--broker", f"127.0.0.1:{broker.frontend_port},127.0.0.1:{nobody}",
            "--http", f"127.0.0.1:{self.port}", "--spool", self.spool]).start()
        wait_until(self.ready, what="the gateway")
        broker.kill()
        wait_until(lambda: self.metric("brokers_connected") == 0, what="the loss being seen")
        for i in range(10):
            self.assertEqual(self.post(str(i))[0], 202)
        broker.start()
        wait_until(lambda: self.metric("spool_jobs") == 0, what="the spool being empty")
        self.assertEqual(gateway.terminate(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
