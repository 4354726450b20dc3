"""cluster.sh over real ssh: up, scale, drain, restart and down, under load. No confirmed job is lost,
each is completed once, and the totals reconcile."""
import time
import unittest

import network
from hosts_harness import HostsCase


class LifeTest(HostsCase):
    names = ("b", "w1", "w2")
    lines = ("{b} role=broker", "{w1} labels=first", "{w2}")

    def test_up_twice_status_logs_drain_and_down(self):
        report = self.up("--queue", "q=echo")
        self.assertTrue(all(host["copied"] for host in report["hosts"]))
        names = [f"{self.host(name).address}.worker-1" for name in ("w1", "w2")]
        self.assertEqual(self.registered(), names)
        again = self.up("--queue", "q=echo")
        self.assertEqual(self.units(again), self.units(report), "up has started something anew")
        self.assertFalse(any(host["copied"] for host in again["hosts"]))

        status = self.cluster("status")
        self.assertEqual(status["brokers"][self.host("b").address]["state"], "serving")
        self.assertEqual(self.units(status), self.units(report))
        logs = self.cluster("logs", self.host("w1").address)
        self.assertTrue(any("connected" in line["line"] for line in logs["lines"]))
        self.cluster("drain", "label=first")
        self.assertEqual(self.registered(), names[1:])
        self.cluster("down")
        for name in self.names:
            left = [pid for pid in self.host(name).pids() if "millrace" in self.comm(pid)]
            self.assertEqual(left, [], f"something still runs on {name}")
        self.cluster("status", code=69)
        self.up()
        self.assertEqual(self.registered(), names)

    @staticmethod
    def comm(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def test_a_host_that_is_off_is_named_and_the_rest_goes_on(self):
        self.host("w1").kill()
        report = self.up("--queue", "q=echo", code=1)
        self.assertEqual(report["unreachable"], [self.host("w1").address])
        self.assertEqual(self.registered(), [f"{self.host('w2').address}.worker-1"])
        self.host("w1").boot()
        self.network.await_sshd(self.host("w1"))
        self.up()
        self.assertEqual(len(self.registered()), 2)


class FullDiskTest(HostsCase):
    names = ("b", "w1")
    lines = ("{b} role=broker", "{w1}")

    def shell(self, words):
        """On w1, in sshd's view of the file systems."""
        return network.call(*self.network.desk.command(*self.network.ssh.split(), self.host("w1").address, words))

    def programs(self):
        return [pid for pid in self.host("w1").pids() if LifeTest.comm(pid).startswith("millrace")]

    def test_nothing_runs_there_that_nobody_knows_of(self):
        base = self.dir / "remote/lab" / self.host("w1").address
        self.shell(f"mkdir -p {base} && mount -t tmpfs -o size=128m,mode=700 none {base}")
        self.up("--queue", "q=echo")
        self.cluster("drain")
        self.assertEqual(self.programs(), [])
        self.shell(f"cat /dev/zero >{base}/fill 2>/dev/null || true")
        report = self.up(code=1)
        self.assertIn(f"can't write to {base}/run: No space left on device", report["hosts"][1]["error"])
        self.assertEqual(self.programs(), [])
        self.shell(f"rm {base}/fill")
        self.up()
        self.assertEqual(len(self.programs()), 1)
        self.cluster("down")
        self.assertEqual(self.programs(), [])


class ScaleTest(HostsCase):
    # Nobody is to be given up here, however busy the machine is.
    broker_config = HostsCase.broker_config.replace('heartbeat = "250ms"', 'heartbeat = "1s"')
    names = ("b", "w1", "w2", "w3")
    lines = ("{b} role=broker", "4/{w1}", "4/{w2}", "4/{w3}")

    def test_from_two_to_six_and_back_under_load(self):
        self.up("--queue", "q=sleep:20ms", "--workers", "2")  # 400 jobs a second
        load = self.load(500, 600 * 500)
        self.wait_status(lambda status: status["jobs"]["ready"] > 50, "two workers being too few")
        self.cluster("scale", "6")
        self.assertEqual(len(self.registered()), 6)
        seconds = self.wait_status(lambda status: status["jobs"]["ready"] < 20, "the backlog being gone")
        self.figure(f"from 2 to 6 workers under load: the backlog is gone {seconds:.1f} s after")
        self.cluster("scale", "2")
        self.assertEqual(len(self.registered()), 2)
        self.done_of(load)
        self.assertEqual(self.status()["totals"]["crashes"], 0, "scaling in has cut off jobs")

    def test_ten_workers_more_within_ten_seconds(self):
        self.up("--queue", "q=echo", "--workers", "2")
        began = time.monotonic()
        self.cluster("scale", "12")
        seconds = time.monotonic() - began
        self.assertEqual(len(self.registered()), 12)
        self.figure(f"scale-out from 2 to 12 workers over ssh, all registered: {seconds:.1f} s")
        self.assertLess(seconds, 10)


class RollingRestartTest(HostsCase):
    broker_config = ScaleTest.broker_config
    names = ("b", "w1", "w2")
    lines = ("{b} role=broker", "8/{w1}", "8/{w2}")

    def test_every_worker_and_the_broker_under_load(self):
        self.up("--queue", "q=sleep:2ms", "--workers", "4")
        before = self.units(self.cluster("status"))
        rate = 5000
        load = self.load(rate, 600 * rate)
        self.wait_status(lambda status: status["totals"]["done"] > rate, "a part of the load")
        began = time.monotonic()
        self.cluster("rolling-restart")
        seconds = time.monotonic() - began
        after = self.units(self.cluster("status"))
        self.assertEqual(after.keys(), before.keys())
        self.assertEqual(set(after.values()) & set(before.values()), set(), "something was not restarted")
        report = self.done_of(load)
        status = self.status()
        self.assertEqual(status["incarnation"], 2)
        self.assertEqual(status["totals"]["crashes"], 0, "a job was cut off")
        confirm, latency = report["confirm_ms"], report["latency_ms"]
        self.figure(f"rolling restart of 4 workers and the broker at {rate}/s, in {seconds:.1f} s: no error; "
                    f"confirm p50 {confirm['p50']:.1f} ms, p99 {confirm['p99']:.0f} ms, max {confirm['max']:.0f} ms; "
                    f"latency p99 {latency['p99']:.0f} ms")


if __name__ == "__main__":
    network.enter()
    unittest.main(verbosity=2)
