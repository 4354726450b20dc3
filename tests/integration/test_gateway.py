"""Submissions by HTTP, through the real gateway, broker and workers."""
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

import harness
from gateway import Gateway, RawClient, post
from harness import wait_until
from test_security import Keys

PROBLEM = "application/problem+json"


class Case(harness.Case):
    def gateway(self, broker, *flags, **options):
        return Gateway(self, broker, *flags, **options)

    def check_problem(self, reply, status, kind=None):
        code, headers, body = reply
        self.assertEqual(code, status, body)
        self.assertEqual(headers["content-type"], PROBLEM)
        problem = json.loads(body)
        self.assertEqual(problem["status"], status)
        self.assertTrue(problem["title"] and problem["detail"])
        if kind:
            self.assertEqual(problem["type"], f"urn:millrace:problem:{kind}")
        return problem


class SubmitTest(Case):
    def setUp(self):
        super().setUp()
        self.held = self.broker().start()

    def test_a_job_is_confirmed_and_done(self):
        gateway = self.gateway(self.held).start()
        status, headers, body = gateway.post("/v1/queues/echo/jobs", b"\x00\xffany bytes")
        self.assertEqual(status, 202)
        answer = json.loads(body)
        self.assertEqual((answer["state"], answer["known"]), ("confirmed", False))
        self.assertEqual(headers["Location"], f"/v1/jobs/{answer['id']}")
        self.assertEqual(self.held.jobs()["ready"], 1)
        status, _, body = gateway.get(headers["Location"])
        self.assertEqual((status, json.loads(body)), (200, {"id": answer["id"], "state": "ready"}))
        self.worker(self.held, "echo=echo").start()
        self.held.wait_jobs(done=1)
        self.assertEqual(json.loads(gateway.get(headers["Location"])[2])["state"], "done")

    def test_a_buffering_broker_does_not_say_confirmed(self):
        broker = self.broker("--fsync", "never", name="unsynced").start()
        gateway = self.gateway(broker).start()
        status, answer = gateway.submit("echo", b"x")
        self.assertEqual((status, answer["state"]), (202, "buffered"))

    def test_wait_brings_the_result(self):
        gateway = self.gateway(self.held).start()
        self.worker(self.held, "echo=echo", "bad=exec:exit 65").start()
        status, answer = gateway.submit("echo", "grüße".encode(), "?wait=20s")
        self.assertEqual((status, answer["state"], answer["attempts"], answer["result"]), (200, "done", 1, "grüße"))
        status, answer = gateway.submit("echo", b"\xff\x00", "?wait=20s")
        self.assertEqual(answer["result_base64"], "/wA=")
        status, headers, body = gateway.post("/v1/queues/echo/jobs?wait=20s", b"\xff\x00", Accept="application/octet-stream")
        self.assertEqual((status, headers["Content-Type"], body), (200, "application/octet-stream", b"\xff\x00"))
        status, answer = gateway.submit("bad", b"x", "?wait=20s")
        self.assertEqual((status, answer["state"]), (200, "dead"))
        reply = gateway.post("/v1/queues/bad/jobs?wait=20s", b"x", Accept="application/octet-stream")
        self.assertEqual(self.check_problem(reply, 502, "not-done")["state"], "dead")

    def test_after_the_wait_the_result_is_kept_for_a_question(self):
        gateway = self.gateway(self.held).start()
        status, answer = gateway.submit("echo", b"later", "?wait=50ms")
        self.assertEqual((status, answer["state"]), (202, "confirmed"))
        self.worker(self.held, "echo=echo").start()
        self.held.wait_jobs(done=1)
        for _ in range(2):
            job = json.loads(gateway.get(f"/v1/jobs/{answer['id']}")[2])
            self.assertEqual((job["state"], job["result"]), ("done", "later"))
        status, _, body = gateway.get(f"/v1/jobs/{answer['id']}", Accept="application/octet-stream")
        self.assertEqual((status, body), (200, b"later"))

    def test_questions_for_jobs_that_are_not_there(self):
        gateway = self.gateway(self.held).start()
        _, answer = gateway.submit("echo", b"x")
        name, _ = answer["id"].split("-")
        self.check_problem(gateway.get(f"/v1/jobs/{name}-99"), 404)
        self.check_problem(gateway.get("/v1/jobs/00000001-1"), 404)
        self.check_problem(gateway.get("/v1/jobs/nonsense"), 400)
        for number in (2**64 - 2, 2**64 - 1, 2**64):  # no range of jobs ends behind the last two
            self.check_problem(gateway.get(f"/v1/jobs/{name}-{number}"), 404 if number == 2**64 - 2 else 400)
        self.assertEqual(gateway.submit("echo", b"x")[0], 202)
        reply = gateway.get(f"/v1/jobs/{answer['id']}", Accept="application/octet-stream")
        self.check_problem(reply, 409, "not-done")

    def test_options_reach_the_broker(self):
        gateway = self.gateway(self.held).start()
        _, later = gateway.submit("q", b"x", "?delay=1h")
        self.assertEqual(self.held.jobs()["scheduled"], 1)
        self.assertEqual(json.loads(gateway.get(f"/v1/jobs/{later['id']}")[2])["state"], "scheduled")
        gateway.submit("q", b"x", "?ttl=1ms")
        self.held.wait_jobs(expired=1)
        self.worker(self.held, "bad=fail:100").start()
        _, answer = gateway.submit("bad", b"x", "?max_attempts=1&wait=20s")
        self.assertEqual((answer["state"], answer["attempts"]), ("dead", 1))

    def test_a_key_is_one_job_at_every_gateway(self):
        one, two = (self.gateway(self.held, name=name).start() for name in ("one", "two"))
        status, first = one.submit("q", b"x", Idempotency_Key="order-17")
        self.assertEqual((status, first["known"]), (202, False))
        for gateway, key in ((one, "order-17"), (two, '"order-17"')):
            status, again = gateway.submit("q", b"x", Idempotency_Key=key)
            self.assertEqual((status, again["id"], again["known"]), (202, first["id"], True))
        _, other = two.submit("elsewhere", b"x", Idempotency_Key="order-17")
        self.assertNotEqual(other["id"], first["id"])
        self.assertEqual(self.held.jobs()["ready"], 2)

    def test_who_waits_with_a_known_key_gets_the_end_too(self):
        one, two = (self.gateway(self.held, name=name).start() for name in ("one", "two"))
        answers = []
        threads = [threading.Thread(target=lambda g=g: answers.append(
            g.submit("echo", b"x", "?wait=20s", Idempotency_Key="k"))) for g in (one, one, two)]
        for thread in threads:
            thread.start()
        wait_until(lambda: self.held.status()["totals"]["duplicates_known"] == 2, what="both repeats")
        self.worker(self.held, "echo=echo").start()
        for thread in threads:
            thread.join()
        self.assertEqual([(status, answer["state"]) for status, answer in answers], [(200, "done")] * 3)
        self.assertEqual(len({answer["id"] for _, answer in answers}), 1)

    def batch(self, gateway, body, **headers):
        status, sent, answer = gateway.post("/v1/queues/q/jobs:batch", body, **headers)
        self.assertEqual((status, sent["Content-Type"]), (200, "application/x-ndjson"), answer)
        return [json.loads(line) for line in answer.splitlines()]

    def test_a_bad_line_does_not_stop_the_others(self):
        gateway = self.gateway(self.held).start()
        lines = self.batch(gateway, b'{"n":1}\nnot JSON\n\n[2]\n')
        self.assertEqual([(line["line"], line["status"]) for line in lines], [(1, 202), (2, 400), (3, 400), (4, 202)])
        self.assertEqual((lines[0]["state"], lines[0]["known"]), ("confirmed", False))
        self.assertIn("JSON", lines[1]["detail"])
        self.assertEqual(self.held.jobs()["ready"], 2)
        only_bad = self.batch(gateway, b"no\n")
        self.assertEqual([line["status"] for line in only_bad], [400])
        self.check_problem(gateway.post("/v1/queues/q/jobs:batch", b""), 400)
        self.check_problem(gateway.post("/v1/queues/q/jobs:batch?wait=1s", b"1"), 400)

    def test_a_batch_with_a_key_can_be_repeated(self):
        gateway = self.gateway(self.held).start()
        body = b"".join(b'{"n":%d}\n' % n for n in range(1000))
        first = self.batch(gateway, body, Idempotency_Key="batch-1")
        again = self.batch(gateway, body, Idempotency_Key="batch-1")
        self.assertEqual([line["id"] for line in first], [line["id"] for line in again])
        self.assertEqual({line["known"] for line in again}, {True})
        self.assertEqual(self.held.jobs()["ready"], 1000)

    def test_a_batch_may_be_larger_than_a_job(self):
        gateway = self.gateway(self.held, "--max-body", "1KiB", "--max-batch-body", "64KiB").start()
        self.assertEqual(len(self.batch(gateway, b'"0123456789"\n' * 1000)), 1000)
        self.check_problem(gateway.post("/v1/queues/q/jobs:batch", b"1\n" * 40_000), 413)
        self.check_problem(gateway.post("/v1/queues/q/jobs", b"x" * 1025), 413)

    def test_a_full_broker_is_429(self):
        broker = self.broker("--max-queued", 10, name="small").start()
        gateway = self.gateway(broker).start()
        for _ in range(10):
            self.assertEqual(gateway.submit("q", b"x")[0], 202)
        reply = gateway.post("/v1/queues/q/jobs", b"x")
        self.assertIn("queue_full", self.check_problem(reply, 429, "back-pressure")["detail"])
        self.assertGreaterEqual(int(reply[1]["Retry-After"]), 1)
        lines = self.batch(gateway, b"1\n2\n")
        self.assertEqual([line["status"] for line in lines], [429, 429])
        self.assertGreater(lines[0]["retry_after_ms"], 0)

    def test_the_brokers_limit_of_a_job_is_413(self):
        broker = self.broker("--max-job-size", "4KiB", name="small").start()
        gateway = self.gateway(broker).start()
        self.assertEqual(gateway.submit("q", b"x" * 4096)[0], 202)
        self.check_problem(gateway.post("/v1/queues/q/jobs", b"x" * 4097), 413)
        self.assertEqual([line["status"] for line in self.batch(gateway, b'"a"\n"%s"\n' % (b"x" * 5000))], [202, 413])

    def test_the_gateways_own_room_is_429(self):
        gateway = self.gateway(self.held, "--max-pending", 2, "--answer-timeout", "20s").start()
        self.held.send_signal(signal.SIGSTOP)
        with gateway.raw() as one, gateway.raw() as two:
            one.send(post("q", "1"))
            two.send(post("q", "2"))
            wait_until(lambda: b"millrace_gateway_open_submissions 2\n" in gateway.get("/metrics")[2], what="both waiting")
            self.check_problem(gateway.post("/v1/queues/q/jobs", b"3"), 429, "back-pressure")
            self.held.send_signal(signal.SIGCONT)
            self.assertEqual([one.reply()[0], two.reply()[0]], [202, 202])


class WireTest(Case):
    """Clients that send what they like, as they like."""

    def setUp(self):
        super().setUp()
        self.held = self.broker().start()
        self.gate = self.gateway(self.held, "--request-timeout", "1s", "--max-body", "64KiB").start()

    def refused(self, request, status):
        with self.gate.raw() as client:
            reply = client.send(request).reply()
            self.check_problem(reply, status)
            self.assertTrue(client.closed())
        return reply

    def test_malformed_requests(self):
        for request in ("nonsense\r\n\r\n", "\x16\x03\x01\r\n\r\n", "POST / HTTP/1.1\r\nno colon\r\n\r\n",
                        "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
                        "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                        "POST /v1/queues/q/jobs HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"):
            with self.subTest(request=request):
                self.refused(request, 400)
        self.assertEqual(self.held.jobs()["ready"], 0)

    def test_a_body_whose_end_nobody_knows_is_no_request(self):
        """Nor is what comes behind it: a proxy before this gateway may have taken it for a body."""
        head = "POST /v1/queues/q/jobs HTTP/1.{}\r\nHost: localhost\r\nTransfer-Encoding: {}\r\n\r\n"
        for coding in ("gzip", "identity", "xchunked", "chunked, chunked", "gzip, chunked", "chunked, identity", ""):
            with self.subTest(coding=coding):
                self.refused(head.format(1, coding).encode() + post("q", "SMUGGLED"), 501)
        self.refused(head.format(1, "chunked\r\nTransfer-Encoding: gzip").encode() + post("q", "SMUGGLED"), 400)
        self.refused(head.format(0, "chunked").encode() + b"1\r\nx\r\n0\r\n\r\n", 400)
        self.assertEqual(self.held.jobs()["ready"], 0)

    def test_sizes(self):
        self.refused("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 20_000 + "\r\n\r\n", 431)
        self.refused("GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 3_000 + "\r\n", 431)
        self.refused(b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n", 413)
        chunks = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        self.refused(b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks * 3, 413)
        self.assertEqual(self.held.jobs()["ready"], 0)

    def test_wrong_paths_and_methods(self):
        with self.gate.raw() as client:  # all on one connection: none of these breaks it
            for method, path, status, allow in (("GET", "/", 404, None), ("GET", "/v1/queues/q/jobs", 405, "POST"),
                                                ("DELETE", "/metrics", 405, "GET, HEAD"), ("GET", "/v1/jobs/", 404, None)):
                client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                reply = client.reply()
                self.check_problem(reply, status)
                self.assertEqual(reply[1].get("allow"), allow)
        self.check_problem(self.gate.post("/v1/queues/no%20queue/jobs", b""), 400)
        for path in ("/v1/queues/%2e/jobs", "/v1/queues/%2e%2e/jobs"):  # no other path of HTTP could name them
            self.check_problem(self.gate.post(path, b""), 400)
        self.check_problem(self.gate.post("/v1/queues/q/jobs", b"", Content_Encoding="gzip"), 415)
        self.check_problem(self.gate.post("/v1/queues/q/jobs?dealy=5s", b""), 400)
        self.check_problem(self.gate.post("/v1/queues/q/jobs", b"", Idempotency_Key="a b"), 400)
        self.check_problem(self.gate.post("/v1/queues/q/jobs", b"", Idempotency_Key="k" * 65), 400)
        self.assertEqual(self.held.jobs()["ready"], 0)

    def test_chunked_pipelined_half_closed_and_asked_first(self):
        with self.gate.raw() as client:
            client.send("POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send("3\r\nhel\r\n").send("2;ext=1\r\nlo\r\n").send("0\r\n\r\n")
            self.assertEqual(client.reply()[0], 202)
            client.send("POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(client.reply()[0], 100)
            self.assertEqual(client.send("hi").reply()[0], 202)
            client.send(post("q", "a") * 20 + post("q", "last")).finish()
            ids = [json.loads(client.reply()[2])["id"] for _ in range(21)]
            self.assertEqual(len(set(ids)), 21)
            self.assertTrue(client.closed())
        self.assertEqual(self.held.jobs()["ready"], 23)

    def test_forms_that_rfc_9112_asks_for(self):
        own = f"127.0.0.1:{self.gate.port}"
        for request in (f"POST http://{own}/v1/queues/q/jobs HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 1\r\n\r\nx",
                        "POST /v1/queues/q/jobs HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
                        "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: identity\r\n"
                        "Content-Length: 1\r\n\r\nx"):
            with self.subTest(request=request), self.gate.raw() as client:
                self.assertEqual(client.send(request).reply()[0], 202)
        with self.gate.raw() as client:
            client.send(post("q", "a") + b"\r\n\r\n" + post("q", "b"))
            self.assertEqual([client.reply()[0], client.reply()[0]], [202, 202])
            client.send(f"GET http://elsewhere/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n")
            self.assertEqual(client.reply()[0], 403)

    def test_the_payload_arrives_as_it_was_sent(self):
        self.worker(self.held, "echo=echo").start()
        body = bytes(range(256)) * 200
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:30_000], body[30_000:]))
        with self.gate.raw() as client:
            client.send(b"POST /v1/queues/echo/jobs?wait=20s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                        b"Accept: application/octet-stream\r\n\r\n" + chunks + b"0\r\n\r\n")
            status, _, result = client.reply()
        self.assertEqual((status, result), (200, body))

    def test_who_sends_slowly_is_let_go(self):
        for half in ("POST /v1/queues/q/jo", "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"):
            started = time.monotonic()
            self.refused(half, 408)
            self.assertLess(time.monotonic() - started, harness.DEADLINE / 2)
        with self.gate.raw() as client:  # a byte now and then does not help
            client.socket.settimeout(0.1)
            request, sent, ended = post("q", "x" * 1000), 0, False
            while not ended and sent < len(request):
                client.send(request[sent:sent + 1])
                sent += 1
                try:
                    ended = client.receive() or True
                except socket.timeout:
                    pass
            self.assertLess(sent, 100)
            self.check_problem(client.reply(), 408)
        self.assertEqual(self.held.jobs()["ready"], 0)

    def test_a_client_that_goes_away_does_no_harm(self):
        for text in (b"", post("q", "x")[:30], post("q", "x" * 100)[:-50]):
            with self.gate.raw() as client:
                client.send(text)
        with self.gate.raw() as client:  # its job is submitted, its answer goes nowhere
            client.send(post("q", "left"))
        self.held.wait_jobs(ready=1)
        self.assertEqual(self.gate.submit("q", b"x")[0], 202)

    def test_the_places_of_clients_that_have_left_are_free(self):
        """They waited for results that come much later, or never."""
        gate = self.gateway(self.held, "--max-connections", "20", name="small").start()
        for _ in range(20):
            with gate.raw() as client:
                client.send(b"POST /v1/queues/q/jobs?wait=30s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        self.held.wait_jobs(ready=20)
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            for _ in range(19):  # one place is this test's look at /readyz, which may be idle still
                client = stack.enter_context(gate.raw())
                self.assertEqual(client.send(post("q", "x")).reply()[0], 202)
        self.assertLess(time.monotonic() - started, 10)

    def test_nothing_is_held_for_clients_that_have_left(self):
        """Long before the maximum of connections is reached."""
        def figures():
            lines = self.gate.get("/metrics", Connection="close")[2].decode().splitlines()
            named = dict(line.split() for line in lines if line.startswith("millrace_gateway_") and "{" not in line)
            return int(named["millrace_gateway_connections"]), int(named["millrace_gateway_waiting"])

        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(self.gate.raw()).send(
                    b"POST /v1/queues/q/jobs?wait=60s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            wait_until(lambda: figures()[1] == 20, what="all of them waiting")
        wait_until(lambda: figures()[0] <= 2 and figures()[1] == 0, deadline=harness.DEADLINE / 2,
                   what="their places being free")

    def test_pages_of_other_sites_may_neither_submit_nor_read(self):
        for path in ("/metrics", "/v1/jobs/00000001-1"):
            self.check_problem(self.gate.get(path, Host="rebound.example"), 403)
            self.check_problem(self.gate.get(path, Origin="http://evil.example"), 403)
        self.assertEqual(self.gate.get("/healthz", Host="rebound.example")[0], 200)
        self.check_problem(self.gate.post("/v1/queues/q/jobs", b"x", Origin="http://evil.example"), 403)
        self.check_problem(self.gate.post("/v1/queues/q/jobs", b"x", Host="rebound.example"), 403)
        own = f"http://127.0.0.1:{self.gate.port}"
        self.assertEqual(self.gate.submit("q", b"x", Origin=own)[0], 202)
        self.assertEqual(self.held.jobs()["ready"], 1)


class ManyTest(Case):
    def test_two_thousand_connections_share_batches(self):
        broker = self.broker().start()
        gateway = self.gateway(broker, "--max-connections", 2000).start()
        count = 500 if harness.SANITIZED else 2000
        clients = []
        try:
            for _ in range(count):
                clients.append(RawClient(gateway.port))
            ids = set()
            for turn in range(3):
                for i, client in enumerate(clients):
                    client.send(post("q", f"{turn}-{i}"))
                for client in clients:
                    status, _, body = client.reply()
                    self.assertEqual(status, 202, body)
                    ids.add(json.loads(body)["id"])
            self.assertEqual(len(ids), 3 * count)
            if count == 2000:
                for _ in range(20):
                    with gateway.raw() as above:
                        reply = above.send(post("q", "x")).reply()
                        self.check_problem(reply, 503)
                        self.assertEqual(reply[1]["retry-after"], "1")
        finally:
            for client in clients:
                client.socket.close()
        status = broker.status()
        self.assertEqual(status["jobs"]["ready"], 3 * count)
        self.assertLess(status["journal"]["commits"], count)


class OutageTest(Case):
    def test_without_a_broker_nothing_is_taken(self):
        broker = self.broker("--heartbeat", "100ms")
        gateway = self.gateway(broker).start(ready=False)
        self.assertEqual(gateway.get("/readyz")[0], 503)
        self.check_problem(gateway.post("/v1/queues/q/jobs", b"x"), 503, "broker-away")
        self.check_problem(gateway.post("/v1/queues/q/jobs:batch", b"1\n2\n"), 503, "broker-away")
        self.check_problem(gateway.get("/v1/jobs/00000001-1"), 503, "broker-away")
        broker.start()
        wait_until(lambda: gateway.status("/readyz") == 200, what="the gateway being ready")
        self.assertEqual(gateway.submit("q", b"x")[0], 202)
        broker.kill()
        wait_until(lambda: gateway.status("/readyz") == 503, what="the gateway noticing")
        reply = gateway.post("/v1/queues/q/jobs", b"x")
        self.check_problem(reply, 503, "broker-away")
        self.assertEqual(reply[1]["Retry-After"], "1")
        broker.start()
        wait_until(lambda: gateway.status("/readyz") == 200, what="the gateway being back")
        self.assertEqual(broker.jobs()["ready"], 1)

    def test_what_was_not_answered_is_unknown_and_repeated_with_its_key_it_is_one_job(self):
        broker = self.broker().start()
        gateway = self.gateway(broker, "--answer-timeout", "500ms").start()
        broker.send_signal(signal.SIGSTOP)
        problem = self.check_problem(gateway.post("/v1/queues/q/jobs", b"x", Idempotency_Key="k"), 503, "unknown")
        self.assertIn("Idempotency-Key", problem["detail"])
        lines = gateway.post("/v1/queues/q/jobs:batch", b"1\nno\n2\n", Idempotency_Key="b")[2].splitlines()
        self.assertEqual([json.loads(line)["status"] for line in lines], [503, 400, 503])
        broker.send_signal(signal.SIGCONT)
        wait_until(lambda: gateway.submit("q", b"x", Idempotency_Key="k")[0] == 202, what="the answer")
        self.assertTrue(gateway.submit("q", b"x", Idempotency_Key="k")[1]["known"])
        again = gateway.post("/v1/queues/q/jobs:batch", b"1\nno\n2\n", Idempotency_Key="b")[2].splitlines()
        self.assertEqual([json.loads(line)["status"] for line in again], [202, 400, 202])
        self.assertEqual(broker.jobs()["ready"], 3)

    def test_a_broker_that_dies_in_the_middle_loses_nothing_and_doubles_nothing(self):
        broker = self.broker("--heartbeat", "200ms").start()
        gateway = self.gateway(broker, "--answer-timeout", "2s").start()
        answered, lock, stop = {}, threading.Lock(), threading.Event()

        def client(number):
            """Repeats each request with its key until it is told where the job is."""
            for turn in range(10_000):
                key, status = f"{number}-{turn}", 0
                while status != 202:
                    status, answer = gateway.submit("q", key.encode(), Idempotency_Key=key)
                    self.assertIn(status, (202, 503))
                    if status == 503:
                        stop.wait(0.05)
                with lock:
                    answered[key] = answer["id"]
                if stop.is_set():
                    return

        threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for target in (200, 400, 600):
            wait_until(lambda t=target: len(answered) > t, what=f"{target} answers")
            broker.kill()
            broker.start()
        wait_until(lambda: len(answered) > 800, what="800 answers")
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(answered.values())), len(answered))
        self.assertEqual(broker.jobs()["ready"], len(answered))
        for key, job in list(answered.items())[::50]:
            self.assertEqual(gateway.submit("q", key.encode(), Idempotency_Key=key)[1]["id"], job)


class StopTest(Case):
    def test_a_drain_answers_what_is_under_way_and_refuses_the_rest(self):
        broker = self.broker().start()
        gateway = self.gateway(broker).start()
        with gateway.raw() as waiting, gateway.raw() as idle:
            self.assertEqual(idle.send(post("echo", "first")).reply()[0], 202)
            waiting.send(post("echo?wait=30s", "x").replace(b"echo?wait=30s/jobs", b"echo/jobs?wait=30s"))
            wait_until(lambda: broker.jobs()["ready"] == 2, what="the job")
            gateway.send_signal(signal.SIGTERM)
            wait_until(lambda: gateway.status("/readyz") == 503, what="readyz")
            self.assertEqual(gateway.status("/healthz"), 200)
            reply = idle.send(post("echo", "late")).reply()
            self.check_problem(reply, 503, "draining")
            self.assertEqual(reply[1]["connection"], "close")
            self.worker(broker, "echo=echo").start()
            status, headers, body = waiting.reply()
            self.assertEqual((status, json.loads(body)["result"]), (200, "x"))
        self.assertEqual(gateway.wait(), 0)
        self.assertEqual(broker.jobs()["done"], 2)

    def test_a_drain_has_an_end(self):
        broker = self.broker().start()
        gateway = self.gateway(broker, "--drain-timeout", "300ms").start()
        with gateway.raw() as waiting, gateway.raw() as idle:
            waiting.send(post("q", "x").replace(b"/jobs", b"/jobs?wait=60s"))
            wait_until(lambda: broker.jobs()["ready"] == 1, what="the job")
            self.assertEqual(gateway.terminate(), 0)
            self.assertEqual(waiting.reply()[0], 202)
            self.assertTrue(idle.closed())

    def test_a_second_signal_ends_it_at_once(self):
        broker = self.broker().start()
        gateway = self.gateway(broker).start()
        with gateway.raw() as waiting:
            waiting.send(post("q", "x").replace(b"/jobs", b"/jobs?wait=60s"))
            wait_until(lambda: broker.jobs()["ready"] == 1, what="the job")
            gateway.send_signal(signal.SIGTERM)
            wait_until(lambda: gateway.status("/readyz") == 503, what="readyz")
            self.assertEqual(gateway.terminate(), -signal.SIGTERM)


class EdgeTest(Case):
    def token(self, text="s3cret-token\n", mode=0o600):
        path = self.dir / "token"
        path.write_text(text)
        path.chmod(mode)
        return path

    def run_gateway(self, *flags):
        return self.run_program("millrace-producer", "gateway", "--broker", "127.0.0.1:1", *flags)

    def test_a_token_is_wanted(self):
        broker = self.broker().start()
        gateway = self.gateway(broker, "--token-file", self.token()).start()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret-token"},
                        {"Authorization": "Bearer s3cret-token2"}, {"Authorization": "Bearer "}):
            reply = gateway.post("/v1/queues/q/jobs", b"x", **headers)
            self.check_problem(reply, 401)
            self.assertEqual(reply[1]["WWW-Authenticate"], "Bearer")
            self.check_problem(gateway.get("/metrics", **headers), 401)
            self.check_problem(gateway.get("/v1/jobs/00000001-1", **headers), 401)
        good = {"Authorization": "Bearer s3cret-token"}
        self.assertEqual(gateway.submit("q", b"x", **good)[0], 202)
        self.assertEqual(gateway.get("/metrics", **good)[0], 200)
        self.assertEqual(gateway.get("/openapi.json")[0], 200)
        self.assertEqual(broker.jobs()["ready"], 1)

    def test_a_job_is_shown_to_the_token_that_submitted_it(self):
        broker = self.broker().start()
        self.worker(broker, "echo=echo").start()
        gateway = self.gateway(broker, "--token-file", self.token("first-tenant\nsecond-tenant\n")).start()
        first, second = ({"Authorization": f"Bearer {name}-tenant"} for name in ("first", "second"))
        status, job = gateway.submit("echo", b"mine", "?wait=20s", **first)
        self.assertEqual((status, job["result"]), (200, "mine"))
        path = "/v1/jobs/" + job["id"]
        self.assertEqual(json.loads(gateway.get(path, **first)[2])["id"], job["id"])
        self.check_problem(gateway.get(path, **second), 404)
        self.check_problem(gateway.get("/v1/jobs/" + job["id"].rsplit("-", 1)[0], **first), 404)
        _, _, lines = gateway.post("/v1/queues/echo/jobs:batch", b"1\n", **second)
        path = "/v1/jobs/" + json.loads(lines)["id"]
        self.assertEqual(gateway.get(path, **second)[0], 200)
        self.check_problem(gateway.get(path, **first), 404)

    def test_a_key_is_its_tokens(self):
        broker = self.broker().start()
        self.worker(broker, "echo=echo").start()
        tokens = self.token("first-tenant\nsecond-tenant\n")
        one, two = (self.gateway(broker, "--token-file", tokens, name=name).start() for name in ("one", "two"))
        first, second = ({"Authorization": f"Bearer {name}-tenant", "Idempotency-Key": "order-1"}
                         for name in ("first", "second"))
        _, mine = one.submit("echo", b"mine", "?wait=20s", **first)
        _, theirs = one.submit("echo", b"theirs", "?wait=20s", **second)
        self.assertEqual((mine["result"], theirs["result"]), ("mine", "theirs"))
        status, again = two.submit("echo", b"", **first)
        self.assertEqual((status, again["id"], again["known"]), (202, mine["id"], True))
        batches = [json.loads(one.post("/v1/queues/echo/jobs:batch", b"1\n", **headers)[2])
                   for headers in (first, first, second)]
        self.assertEqual([line["known"] for line in batches], [False, True, False])
        self.assertEqual(broker.status()["totals"]["accepted"], 4)

    def test_beyond_loopback_a_token_is_needed(self):
        self.assert_exit(self.run_gateway("--http", "0.0.0.0:0"), 78, "--token-file", "0.0.0.0")

    def test_a_token_file_must_be_ones_own(self):
        self.assert_exit(self.run_gateway("--token-file", self.token(mode=0o640)), 78, "640", "chmod 600")
        self.assert_exit(self.run_gateway("--token-file", self.token("\n")), 78, "no token")
        self.assert_exit(self.run_gateway("--token-file", self.token("a b\n")), 78, "printable")
        self.assert_exit(self.run_gateway("--token-file", self.dir / "missing"), 78, "missing")

    def test_a_broker_that_asks_for_keys(self):
        keys = Keys(self, "gateway")
        broker = self.broker(*keys.server).start()
        gateway = self.gateway(broker, *keys.client("gateway")).start()
        self.assertEqual(gateway.submit("q", b"x")[0], 202)
        process = self.run_program("millrace-producer", "gateway", "--broker", f"127.0.0.1:{broker.frontend_port}",
                                   "--http", "127.0.0.1:0", *keys.client("stranger"))
        self.assert_exit(process, harness.UNREACHABLE, "keys add")
        self.assertEqual(broker.jobs()["ready"], 1)

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.assert_exit(self.run_gateway("--http", address), harness.CANT_CREATE, address, "--http")

    def test_the_wrong_port_of_the_broker_ends_it(self):
        broker = self.broker().start()
        process = self.run_program("millrace-producer", "gateway", "--broker", f"127.0.0.1:{broker.backend_port}",
                                   "--http", "127.0.0.1:0")
        self.assert_exit(process, harness.UNREACHABLE, "port for workers")

    def test_metrics_are_what_prometheus_takes(self):
        broker = self.broker().start()
        gateway = self.gateway(broker).start()
        gateway.submit("q", b"x")
        gateway.post("/nothing")
        status, headers, body = gateway.get("/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        text = body.decode()
        for line in ('millrace_gateway_responses_total{code="202"} 1', 'millrace_gateway_responses_total{code="404"} 1',
                     'millrace_gateway_submissions_total{answer="confirmed"} 1', "millrace_gateway_broker_connected 1"):
            self.assertIn(line + "\n", text)
        if shutil.which("promtool"):
            check = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
            self.assertEqual((check.returncode, check.stdout + check.stderr), (0, b""))

    def test_the_document_is_served(self):
        gateway = self.gateway(self.broker()).start(ready=False)
        status, headers, body = gateway.get("/openapi.json")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        document = json.loads(body)
        self.assertEqual(document["openapi"], "3.1.0")
        for path, methods in document["paths"].items():  # each is there: neither 404 nor 405
            for method in methods:
                if method != "parameters":
                    address = path.replace("{queue}", "q").replace("{id}", "00000001-1")
                    status, _, _ = gateway.ask(method.upper(), address, None, {})
                    self.assertIn(status, (200, 503), address)


if __name__ == "__main__":
    unittest.main()
