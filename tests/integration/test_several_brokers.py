"""One worker, several brokers: it draws from all of them, and one that is away stops nobody."""
import json
import unittest
import urllib.error
import urllib.request

import harness
from harness import UNREACHABLE, USAGE, wait_until


class SeveralBrokersTest(harness.Case):
    def worker_of(self, brokers, *queues, name="worker", flags=(), pool="fixed:2"):
        [self.http] = harness.free_ports(1)
        addresses = ",".join(f"127.0.0.1:{broker.backend_port}" for broker in brokers)
        arguments = [harness.BIN / "millrace-worker", "run", "--broker", addresses, "--pool", pool, "--http",
                     f"127.0.0.1:{self.http}"]
        for queue in queues:
            arguments += ["--queue", queue]
        return harness.Process(self, name, [*arguments, *flags])

    def lanes(self):
        """As the worker's status has them, once it listens."""
        def ask():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v1/status", timeout=10) as answer:
                    return json.load(answer)["lanes"]
            except urllib.error.URLError:
                return None

        return wait_until(ask, what="the worker's status")

    def fill(self, broker, count):
        load = self.produce("load", broker, "--queue", "q", "--count", count, "--no-wait")
        self.assertEqual(load.returncode, 0, load.stderr)

    def test_all_are_drained_at_once_and_fairly(self):
        brokers = [self.broker(name=f"broker{i}").start() for i in range(3)]
        for broker in brokers[:2]:
            self.fill(broker, 400)
        witness = self.dir / "order"
        self.worker_of(brokers, f"q=exec:echo ${{MILLRACE_JOB_ID%-*}} >> {witness}").start()
        for broker in brokers[:2]:
            broker.wait_jobs(done=400, ready=0)
        order = harness.read_lines(witness)
        self.assertEqual(len(order), 800)
        first = brokers[0].status()["broker"]
        share = sum(line == first for line in order[100:600]) / 500
        self.assertTrue(0.35 < share < 0.65, f"{share:.0%} of the jobs in the middle are of one of two brokers")
        [lane] = self.lanes()
        self.assertEqual([broker["connected"] for broker in lane["brokers"]], [True] * 3)
        self.assertEqual([broker["confirmed"] for broker in lane["brokers"]], [400, 400, 0])

    def test_one_that_is_empty_leaves_the_whole_pool_to_the_other(self):
        busy, empty = (self.broker(name=name).start() for name in ("busy", "empty"))
        self.worker_of([empty, busy], "q=sleep:60s", pool="fixed:8", flags=("--prefetch", "8")).start()
        self.fill(busy, 30)
        wait_until(lambda: self.lanes()[0]["threads"]["busy"] == 8, what="all threads working for one broker")

    def test_a_broker_is_killed_and_comes_back(self):
        brokers = [self.broker(name=f"broker{i}").start() for i in range(2)]
        worker = self.worker_of(brokers, "q=sleep:1ms").start()
        loads = [self.producer("load", broker, "--queue", "q", "--rate", "300", "--duration", "8s", "--json", "--verify",
                               "--ledger", self.dir / f"ledger{i}", name=f"load{i}").start()
                 for i, broker in enumerate(brokers)]
        wait_until(lambda: all(broker.jobs()["done"] > 200 for broker in brokers), what="both being worked for")
        brokers[0].kill()
        before = brokers[1].jobs()["done"]
        wait_until(lambda: brokers[1].jobs()["done"] > before + 200, what="the other going on")
        wait_until(lambda: sum(broker["connected"] for broker in self.lanes()[0]["brokers"]) == 1, what="its loss being seen")
        brokers[0].start()
        for load, broker, ledger in zip(loads, brokers, ("ledger0", "ledger1")):
            self.assertEqual(load.wait(60), 0, load.text())
            report = load.report()
            self.assertEqual((report["lost"], report["completed"]), (0, report["sent"]))
            self.audit(broker, self.dir / ledger)
        self.assertEqual(worker.terminate(), 0)

    def cluster_status(self, brokers, *flags):
        return self.run_program("millrace-broker", "status", "--http", ",".join(broker.http for broker in brokers), *flags)

    def test_the_status_of_one_broker_under_two_names_is_none(self):
        broker = self.broker().start()
        port = broker.http.rpartition(":")[2]
        twice = self.run_program("millrace-broker", "status", "--http", f"127.0.0.1:{port},localhost:{port}")
        self.assert_exit(twice, 78, "localhost", "127.0.0.1", "one broker twice")

    def test_status_of_the_cluster(self):
        brokers = [self.broker(name=f"broker{i}").start() for i in range(2)]
        self.worker_of(brokers, "q=echo", flags=("--name", "w")).start()
        for broker, count in zip(brokers, (30, 12)):
            self.fill(broker, count)
            broker.wait_jobs(done=count)
        status = self.cluster_status(brokers, "--json")
        self.assertEqual(status.returncode, 0, status.stderr)
        cluster = json.loads(status.stdout)
        self.assertEqual((cluster["state"], cluster["jobs"]["done"], cluster["totals"]["accepted"]), ("serving", 42, 42))
        self.assertEqual([broker["status"]["jobs"]["done"] for broker in cluster["brokers"]], [30, 12])
        [worker] = cluster["workers"]
        self.assertEqual((worker["name"], worker["brokers"], worker["done"]), ("w", 2, 42))
        one = self.cluster_status(brokers[:1], "--json")
        self.assertEqual(json.loads(one.stdout)["broker"], cluster["brokers"][0]["status"]["broker"])

        brokers[1].kill()
        status = self.cluster_status(brokers, "--json")
        self.assert_exit(status, UNREACHABLE, "1 of 2 brokers", brokers[1].http, "start it")
        cluster = json.loads(status.stdout)
        self.assertEqual((cluster["state"], cluster["jobs"]["done"]), ("degraded", 30))
        self.assertEqual(cluster["brokers"][1]["http"], brokers[1].http)
        self.assertIn("start it", cluster["brokers"][1]["error"])
        text = self.cluster_status(brokers)
        self.assert_exit(text, UNREACHABLE, brokers[1].http)
        self.assertIn("1 of 2 brokers answer", text.stdout.decode())
        self.assertRegex(text.stdout.decode(), rf"{brokers[1].http} +- +no answer")

    def test_brokers_that_are_not_there(self):
        broker = self.broker().start()
        [nowhere, nobody] = harness.free_ports(2)
        worker = self.worker_of([broker], "q=echo")
        worker.arguments[worker.arguments.index("--broker") + 1] += f",127.0.0.1:{nowhere}"
        worker.arguments += ["--connect-timeout", "2s"]  # a busy machine may take a while to get to the broker
        worker.start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "--wait", "x").returncode, 0)
        self.assertEqual(worker.terminate(), 0)

        def run(brokers):
            return self.run_program("millrace-worker", "run", "--broker", brokers, "--queue", "q=echo", "--connect-timeout",
                                    "200ms")

        self.assert_exit(run(f"127.0.0.1:{nowhere},127.0.0.1:{nobody}"), UNREACHABLE, str(nowhere), str(nobody))
        self.assert_exit(run("a,b,a"), USAGE, "a:5571 twice")


if __name__ == "__main__":
    unittest.main(verbosity=2)
