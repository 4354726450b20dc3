"""Hosts that lose their power, their cable, or packets, under load. No confirmed job is lost, each is
completed once, the totals reconcile, and how long recovery takes is said and bounded."""
import collections
import time
import unittest

import network
from hosts_harness import DETECTED, LEASE, HostsCase, harness, read_lines, wait_until
from proxy import Proxy


class FaultsCase(HostsCase):
    names = ("b", "w1", "w2")
    lines = ("{b} role=broker", "{w1}", "{w2}")

    def witness(self):
        """A handler that leaves a line for each execution; the hosts share this file system."""
        return f'q=exec:echo "$MILLRACE_JOB_ID" >>{self.dir}/witness; sleep 0.02'

    def ran(self):
        return collections.Counter(read_lines(self.dir / "witness"))

    def first_ran(self):
        """The number of the last job before which none is missing; jobs are counted from 1."""
        numbers = {int(job.rpartition("-")[2]) for job in self.ran()}
        return next(number for number in range(len(numbers) + 1) if number + 1 not in numbers)

    def every_job_ran(self, count):
        ran = self.ran()
        self.assertEqual(len(ran), count)
        return sum(ran.values()) - count

    def name_of(self, name):
        return f"{self.host(name).address}.worker-1"

    def gone(self, name):
        """Seconds until the broker counts the worker of a host as gone."""
        return self.wait_status(lambda status: all(worker["name"] != self.name_of(name) or not worker["connected"]
                                                   for worker in status["workers"]), f"{name} being given up")

    def back(self, name, deadline=30):
        return self.wait_status(lambda status: any(worker["name"] == self.name_of(name) and worker["connected"]
                                                   for worker in status["workers"]), f"{name} being back", deadline)

    def settled(self):
        return self.wait_status(lambda status: status["jobs"]["ready"] + status["jobs"]["leased"] < 20,
                                "the queue being as short as before")


class PowerTest(FaultsCase):
    def test_a_host_whose_power_goes_is_found_out_and_its_jobs_run_elsewhere(self):
        self.up("--queue", self.witness(), "--pool", "fixed:4")
        count = 1000
        load = self.load(100, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 5, "a fifth of the load")
        self.host("w1").kill()
        began, accepted = time.monotonic(), self.status()["totals"]["accepted"]
        found = self.gone("w1")
        wait_until(lambda: self.first_ran() >= accepted, what="all that was accepted having run")
        elsewhere = time.monotonic() - began
        self.figure(f"a host without power is given up after {found:.2f} s (bound {DETECTED:.2f} s); all that it had "
                    f"has run elsewhere after {elsewhere:.2f} s")
        self.assertLess(found, DETECTED)
        self.assertLess(elsewhere, DETECTED + 1)
        self.cluster("status", code=1)
        self.host("w1").boot()
        self.network.await_sshd(self.host("w1"))
        self.up()
        self.back("w1")
        self.done_of(load, count)
        again = self.every_job_ran(count)
        self.assertLessEqual(again, self.status()["totals"]["crashes"])

    def test_the_brokers_host_loses_its_power(self):
        self.up("--queue", self.witness(), "--pool", "fixed:4")
        count = 1000
        load = self.load(100, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 5, "a fifth of the load")
        self.host("b").kill()
        began = time.monotonic()
        self.host("b").boot()
        self.network.await_sshd(self.host("b"))
        self.up()
        self.settled()
        self.figure(f"a broker's host without power: all as before {time.monotonic() - began:.2f} s after it is back")
        self.done_of(load, count)
        self.assertEqual(self.every_job_ran(count), 0, "a job ran twice though its worker lived")


class CableTest(FaultsCase):
    def test_the_broker_is_cut_off_from_its_workers_for_longer_than_a_lease(self):
        self.up("--queue", self.witness(), "--pool", "fixed:4")
        count = 1000
        load = self.load(100, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 5, "a fifth of the load")
        for name in ("w1", "w2"):
            self.host(name).unplug()
        found = max(self.gone("w1"), self.gone("w2"))
        self.assertLess(found, DETECTED)
        ended = time.monotonic() + LEASE + 1  # the partition outlasts every lease
        wait_until(lambda: time.monotonic() > ended, what="the lease")
        done = self.status()["totals"]["done"]
        for name in ("w1", "w2"):
            self.host(name).plug()
        back = max(self.back("w1"), self.back("w2"))
        settled = self.settled()
        self.assertGreater(self.status()["totals"]["done"], done)
        self.figure(f"both workers' cables out for {LEASE + 1:.0f} s: given up after {found:.2f} s, back {back:.2f} s "
                    f"after the cables, the backlog gone {settled:.2f} s later")
        self.done_of(load, count)
        self.every_job_ran(count)

    def test_half_open_connections_of_a_worker_and_a_producer(self):
        """Nobody sends a FIN: the broker's side of both connections stays open, and must not matter."""
        self.up("--queue", self.witness(), "--pool", "fixed:4")
        count = 1000
        load = self.load(100, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 5, "a fifth of the load")
        self.host("w1").unplug()
        self.network.desk.unplug()
        self.assertLess(self.gone("w1"), DETECTED)
        self.wait_status(lambda status: status["producers"] == 0, "the producer being given up", DETECTED + 1)
        self.network.desk.plug()
        self.host("w1").plug()
        began = time.monotonic()
        self.wait_status(lambda status: status["producers"] == 1, "the producer being back")
        self.back("w1")
        self.figure("half-open connections of a worker and a producer: both back "
                    f"after {time.monotonic() - began:.2f} s")
        self.done_of(load, count)
        self.every_job_ran(count)


class ProxyTest(FaultsCase):
    """A bad line between the workers and the broker: what TCP makes of loss is delay, and at last a
    reset; a proxy does both on demand."""

    def test_delay_stalls_and_resets(self):
        self.up("--queue", self.witness(), "--workers", "0")
        proxy = Proxy(self.host("b"), 6571, (self.host("b").address, 5571))
        self.addCleanup(proxy.close)
        for name in ("w1", "w2"):
            self.start_worker(name, f"{self.host('b').address}:6571")
        self.back("w1")
        count = 1200
        load = self.load(100, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 10, "a tenth of the load")
        proxy.delay(0.05)  # each way: no reason to give anyone up
        for part in (2, 3):
            self.wait_status(lambda status: status["totals"]["done"] > count * part / 10, "progress over a slow line")
        self.assertEqual(self.status()["totals"]["crashes"], 0)
        proxy.delay(0)
        proxy.stall()
        found = self.gone("w1")
        self.assertLess(found, DETECTED)
        proxy.resume()
        back = self.back("w1")
        self.wait_status(lambda status: status["totals"]["done"] > count / 2, "half of the load")
        for _ in range(5):
            proxy.reset()
            before = self.status()["totals"]["done"]
            self.wait_status(lambda status: status["totals"]["done"] > before + 20, "progress after a reset")
        self.figure(f"a stalled line: given up after {found:.2f} s, back {back:.2f} s after it moves again; "
                    "five resets survived")
        self.done_of(load, count)
        self.every_job_ran(count)

    def start_worker(self, name, broker):
        """As cluster.sh would, but through the proxy."""
        remote = self.dir / "remote/lab" / self.host(name).address
        command = self.host(name).command(
            remote / "bin/millrace-worker", "run", "--broker", broker, "--queue", self.witness(), "--pool", "fixed:4",
            "--name", self.name_of(name), *self.keys(remote / "etc/host.key"))
        return harness.Process(self, f"worker-{name}", command).start()


if __name__ == "__main__":
    network.enter()
    unittest.main(verbosity=2)
