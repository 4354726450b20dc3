"""A producer and several brokers: each submission goes to one of them, and one that is away stops nobody."""
import json
import unittest
import urllib.error
import urllib.request

import harness
from harness import BAD_DATA, UNREACHABLE, USAGE, scaled, wait_until


class SpreadTest(harness.Case):
    def brokers(self, count=3):
        started = [self.broker(name=f"broker{i}").start() for i in range(count)]
        self.names = {broker.status()["broker"]: broker for broker in started}
        return started

    def addresses(self, brokers):
        return ",".join(f"127.0.0.1:{broker.frontend_port}" for broker in brokers)

    def worker_of(self, brokers, *queues, pool="fixed:2"):
        addresses = ",".join(f"127.0.0.1:{broker.backend_port}" for broker in brokers)
        arguments = [harness.BIN / "millrace-worker", "run", "--broker", addresses, "--pool", pool]
        for queue in queues:
            arguments += ["--queue", queue]
        return harness.Process(self, "worker", arguments).start()

    def run_producer(self, command, brokers, *flags, stdin=None):
        return self.run_program("millrace-producer", command, "--broker", self.addresses(brokers), *flags, stdin=stdin,
                                deadline=120)

    def start_producer(self, command, brokers, *flags, name="producer"):
        return harness.Process(self, name, [harness.BIN / "millrace-producer", command, "--broker",
                                            self.addresses(brokers), *flags]).start()

    def audit_all(self, brokers, ledger):
        process = self.run_producer("audit", brokers, "--ledger", ledger, "--json")
        self.assertEqual(process.returncode, 0, process.stdout.decode() + process.stderr.decode())
        return json.loads(process.stdout)

    def accepted(self, broker):
        return broker.status()["totals"]["accepted"]

    def test_a_load_goes_to_all_and_the_books_are_those_of_all(self):
        brokers = self.brokers()
        self.worker_of(brokers, "q=echo")
        count = scaled(60_000)
        load = self.run_producer("load", brokers, "--queue", "q", "--count", count, "--rate", "max", "--verify", "--json",
                                 "--ledger", self.dir / "ledger")
        self.assertEqual(load.returncode, 0, load.stderr)
        report = json.loads(load.stdout)
        self.assertEqual((report["completed"], report["verified"]["done"], report["lost"]), (count, count, 0))
        shares = [self.accepted(broker) for broker in brokers]
        self.assertEqual(sum(shares), count)
        self.assertGreater(min(shares), count // 20, f"shares {shares}")
        self.assertEqual(self.audit_all(brokers, self.dir / "ledger")["done"], count)

        part = self.run_producer("audit", brokers[:2], "--ledger", self.dir / "ledger")
        self.assert_exit(part, 1)
        self.assertIn("name all brokers of these ledgers", part.stdout.decode())
        [nobody] = harness.free_ports(1)
        missing = self.run_program("millrace-producer", "audit", "--ledger", self.dir / "ledger", "--broker",
                                   f"{self.addresses(brokers[:2])},127.0.0.1:{nobody}", "--connect-timeout", "1500ms")
        self.assert_exit(missing, UNREACHABLE, str(nobody), "incomplete without it")

    def test_one_is_killed_and_its_jobs_wait_for_it_while_the_rest_goes_on(self):
        brokers = self.brokers()
        self.worker_of(brokers, "q=sleep:1ms", pool="fixed:4")
        load = self.start_producer("load", brokers, "--queue", "q", "--rate", "600", "--duration", "8s", "--json", "--verify",
                                   "--ledger", self.dir / "ledger", name="load")
        wait_until(lambda: min(self.accepted(broker) for broker in brokers) > 200, what="all taking jobs")
        brokers[0].kill()
        before = self.accepted(brokers[1]) + self.accepted(brokers[2])
        wait_until(lambda: self.accepted(brokers[1]) + self.accepted(brokers[2]) > before + 600,
                   what="the other two taking the whole load")
        brokers[0].start()
        self.assertEqual(load.wait(90), 0, load.text())
        report = load.report()
        self.assertEqual((report["lost"], report["duplicates"], report["completed"]), (0, 0, report["sent"]))
        books = self.audit_all(brokers, self.dir / "ledger")
        self.assertEqual((books["done"], books["unknown"]), (report["sent"], 0))
        executed = sum(broker.status()["totals"]["accepted"] for broker in brokers)
        self.assertEqual(executed, report["sent"], "each submission is one job of one broker")

    def test_what_was_unknown_at_one_is_sent_to_no_other_by_a_resume(self):
        """kill -9 of the producer and of a broker while submissions are on their way."""
        brokers = self.brokers()
        count = 20_000
        lines = self.dir / "lines"
        lines.write_text("".join(f"{i}\n" for i in range(1, count + 1)))
        flags = ["--queue", "q", "--lines", lines, "--joblog", self.dir / "joblog"]
        producer = self.start_producer("submit", brokers, *flags, name="submit")
        first = wait_until(lambda: next((broker for broker in brokers if self.accepted(broker) > 0), None),
                           what="the first confirms", interval=0.001)
        first.kill()
        producer.kill()
        rest = [broker for broker in brokers if broker is not first]
        others = self.run_producer("submit", rest, *flags, "--resume", "--timeout", "20s")
        self.assert_exit(others, BAD_DATA, "--broker")
        first.start()
        again = self.run_producer("submit", brokers, *flags, "--resume")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(sum(self.accepted(broker) for broker in brokers), count)

    def test_results_come_in_the_order_of_the_input(self):
        brokers = self.brokers()
        self.worker_of(brokers, "q=echo")
        count = 3000
        run = self.run_producer("submit", brokers, "--queue", "q", "--lines", "-", "--wait", "--keep-order", "--jobs", "50",
                                stdin="".join(f"{i}\n" for i in range(count)).encode())
        self.assertEqual(run.returncode, 0, run.stderr)
        results = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertEqual([int(result["result"]) for result in results], list(range(count)))
        self.assertEqual({result["id"].split("-")[0] for result in results}, set(self.names))

    def test_a_key_has_one_home_and_goes_to_the_next_while_that_is_away(self):
        brokers = self.brokers()

        def submit(order, key):
            run = self.run_producer("submit", order, "--queue", "q", "--key", key, "payload")
            self.assertEqual(run.returncode, 0, run.stderr)
            return run.stdout.decode().strip()

        keys = [f"key-{i}" for i in range(8)]
        ids = {key: submit(brokers, key) for key in keys}
        homes = {key: self.names[job.split("-")[0]] for key, job in ids.items()}
        self.assertGreater(len(set(homes.values())), 1)
        backwards = brokers[::-1]
        self.assertEqual({key: submit(backwards, key) for key in keys}, ids)

        gone = homes[keys[0]]
        gone.kill()
        for key in keys:
            job = submit(brokers, key)
            if homes[key] is gone:
                self.assertNotEqual(self.names[job.split("-")[0]], gone)
                self.assertEqual(submit(backwards, key), job, "while the home is away the next one is it, for all")
            else:
                self.assertEqual(job, ids[key])

    def request(self, path, body=None, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body,
                                                               headers=headers), timeout=20) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith(b"{") else text
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except urllib.error.URLError:
            return 0, None

    def start_gateway(self, brokers, *flags):
        [self.port] = harness.free_ports(1)
        gateway = self.start_producer("gateway", brokers, "--http", f"127.0.0.1:{self.port}", *flags, name="gateway")

        def listens():
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5)
            except urllib.error.URLError:
                return False
            return True

        wait_until(listens, what="the gateway being ready")
        return gateway

    def test_a_gateway_spreads_and_finds_each_job(self):
        brokers = self.brokers()
        self.worker_of(brokers, "q=echo")
        gateway = self.start_gateway(brokers)
        jobs = []
        for i in range(30):
            status, job = self.request("/v1/queues/q/jobs?wait=10s", f"body {i}".encode())
            self.assertEqual((status, job["result"]), (200, f"body {i}"))
            jobs.append(job["id"])
        self.assertEqual({job.split("-")[0] for job in jobs}, set(self.names))
        for job in jobs:
            self.assertEqual(self.request(f"/v1/jobs/{job}")[0], 200)
        self.assertEqual(self.request("/v1/jobs/00000001-1")[0], 404)

        keyed = [self.request("/v1/queues/q/jobs", b"x", **{"Idempotency-Key": f"k{i}"})[1]["id"] for i in range(10)]
        again = [self.request("/v1/queues/q/jobs", b"x", **{"Idempotency-Key": f"k{i}"})[1] for i in range(10)]
        self.assertEqual([job["id"] for job in again], keyed)
        self.assertEqual({job["known"] for job in again}, {True})

        brokers[0].kill()
        name = next(name for name, broker in self.names.items() if broker is brokers[0])
        lost = next(job for job in jobs if job.startswith(name))
        wait_until(lambda: self.request(f"/v1/jobs/{lost}")[0] == 503, what="the lost broker's jobs being out of reach")
        accepted = [self.request("/v1/queues/q/jobs", b"y") for _ in range(20)]
        self.assertEqual({status for status, _ in accepted}, {202})
        self.assertNotIn(name, {job["id"].split("-")[0] for _, job in accepted})
        for broker in brokers[1:]:
            broker.kill()
        wait_until(lambda: self.request("/readyz")[0] == 503, what="the gateway not being ready")
        status, problem = self.request("/v1/queues/q/jobs", b"z")
        self.assertEqual((status, problem["type"]), (503, "urn:millrace:problem:broker-away"))
        self.assertEqual(gateway.terminate(), 0)

    def test_two_names_of_one_broker_are_refused(self):
        [broker] = self.brokers(1)
        names = f"127.0.0.1:{broker.frontend_port},localhost:{broker.frontend_port}"
        run = self.run_program("millrace-producer", "load", "--broker", names, "--queue", "q", "--count", "100")
        self.assert_exit(run, 78, "localhost", "127.0.0.1", "one broker twice")
        self.assertEqual(self.accepted(broker), 0)

    def test_a_full_broker_leaves_its_share_to_the_others(self):
        full, free = self.broker("--max-queued", "5", name="full").start(), self.broker(name="free").start()
        self.start_gateway([full, free])
        answers = [self.request("/v1/queues/q/jobs", b"x")[0] for _ in range(60)]
        self.assertLessEqual(answers.count(429), 5, answers)
        self.assertEqual(answers.count(202) + answers.count(429), 60)
        load = self.run_producer("submit", [full, free], "--queue", "q", "--lines", "-", "--json", "--no-hold",
                                 stdin=b"x\n" * 100)
        self.assertLess(json.loads(load.stdout)["rejected"], 100)

    def test_where_all_are_full_the_answer_is_429(self):
        both = [self.broker("--max-queued", "1", name=name).start() for name in ("one", "other")]
        self.start_gateway(both)
        answers = [self.request("/v1/queues/q/jobs", b"x")[0] for _ in range(20)]
        self.assertEqual((answers.count(202), answers.count(429)), (2, 18), answers)
        self.assertEqual(self.request("/readyz")[0], 200)

    def test_a_resume_that_lacks_a_broker_names_it(self):
        [broker] = self.brokers(1)
        joblog = self.dir / "joblog"
        head = "Seq\tId\tQueue\tStart\tRuntime\tState\tAttempts\tHash\tError\n"
        joblog.write_text(head)
        (self.dir / "joblog.ledger").write_text(
            '{"producer":"30313233343536373839616263646566"}\n{"sent":[1,1],"queue":"q","to":"10.9.9.9:5570"}\n')
        run = self.run_producer("submit", [broker], "--queue", "q", "--lines", "-", "--joblog", joblog, "--resume",
                                stdin=b"x\n")
        self.assert_exit(run, BAD_DATA, "10.9.9.9:5570", "--broker")
        self.assertEqual(self.accepted(broker), 0)

    def test_a_list_that_can_not_be(self):
        twice = self.run_program("millrace-producer", "submit", "--broker", "a,b,a:5570", "--queue", "q", "x")
        self.assert_exit(twice, USAGE, "--broker", "a:5570", "twice")
        one, other = harness.free_ports(2)
        nobody = self.run_program("millrace-producer", "submit", "--broker", f"127.0.0.1:{one},127.0.0.1:{other}", "--queue",
                                  "q", "--connect-timeout", "300ms", "x")
        self.assert_exit(nobody, UNREACHABLE, str(one), str(other))

    def test_the_port_for_workers_is_named_and_the_others_go_on(self):
        brokers = self.brokers(2)
        addresses = f"127.0.0.1:{brokers[0].frontend_port},127.0.0.1:{brokers[1].backend_port}"
        run = self.run_program("millrace-producer", "submit", "--broker", addresses, "--queue", "q", "x")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(b"port for workers", run.stderr)
        self.assertEqual(self.accepted(brokers[0]), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
