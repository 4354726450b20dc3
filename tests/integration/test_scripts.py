"""scripts/cluster.sh and scripts/demo.sh with the real programs; and that the demo's verdict is not
always yes."""
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import harness
from harness import ROOT, wait_until

SCRIPTS = ROOT / "scripts"


def own_processes(marker):
    """Pids whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


class ScriptCase(harness.Case):
    def script(self, name, *arguments, deadline=300):
        environment = {**os.environ, "MILLRACE_BIN": str(harness.BIN)}
        return subprocess.run([str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True,
                              timeout=deadline, env=environment, check=False)


class ClusterTest(ScriptCase):
    def setUp(self):
        super().setUp()
        self.port = harness.free_ports(1)[0]
        self.cluster_dir = self.dir / "cluster"
        self.data = self.cluster_dir / "this-machine/millrace-data"
        self.addCleanup(self.cluster, "down")

    def cluster(self, *arguments, code=0):
        process = self.script("cluster.sh", *arguments, "--dir", self.cluster_dir)
        self.assertEqual(process.returncode, code, process.stderr)
        return process

    def status(self):
        """The broker's status, and the pids of all units by name."""
        report = json.loads(self.cluster("status", "--json").stdout)
        [host] = report["hosts"]
        return report["brokers"][":"], {unit["name"]: unit["pid"] for unit in host["units"]}

    def test_up_again_scale_and_down(self):
        up = ("up", "--workers", 2, "--queue", "a=echo", "--queue", "b=sleep:1ms", "--port-base", self.port)
        self.cluster(*up)
        status, first = self.status()
        self.assertEqual((status["state"], sorted(first)), ("serving", ["broker", "worker-1", "worker-2"]))
        self.assertEqual({queue["name"] for queue in status["queues"]}, {"a", "b"})
        self.cluster(*up)
        self.assertEqual(self.status()[1], first)

        # What died is started again, and what lived is left alone.
        os.kill(first["worker-2"], 9)
        os.kill(first["broker"], 9)
        wait_until(lambda: self.script("cluster.sh", "status", "--dir", self.cluster_dir).returncode == 69,
                   what="the broker being seen as gone")
        self.cluster("up")
        status, second = self.status()
        self.assertEqual(sorted(second), sorted(first))
        self.assertEqual(second["worker-1"], first["worker-1"])
        self.assertEqual(status["incarnation"], 2)

        self.cluster("scale", 4)
        self.assertEqual(len(self.status()[1]), 5)
        self.cluster("scale", 1)
        self.assertEqual(self.status()[1], {"broker": second["broker"], "worker-1": first["worker-1"]},
                         "the newest go first")
        self.cluster("up", "--port-base", self.port + 200, code=64)

        self.cluster("down")
        self.cluster("down")
        self.cluster("status", code=69)
        self.assertEqual(own_processes(str(self.cluster_dir)), [])
        self.assertTrue(self.data.is_dir(), "down keeps the data")


class DemoTest(ScriptCase):
    @unittest.skipIf(harness.SANITIZED, "5,000 jobs a second are more than a sanitizer's build carries")
    def test_the_demo_in_short(self):
        files = self.dir / "files"
        files.mkdir()
        for name in ("plain", " blanks around ", "-dash", "back\\slash", "quote'\"s", "ünïcode", "$HOME", "empty"):
            (files / name).write_bytes(b"" if name == "empty" else name.encode() * 100)
        (files / "line\nfeed").write_text("left out: a line can't name it")
        port = harness.free_ports(1)[0]
        process = self.script("demo.sh", "--quick", "--json", "--files", files, "--port-base", port)
        report = json.loads(process.stdout)
        self.assertEqual((process.returncode, report["ok"], report["problems"]), (0, True, []), process.stderr)
        self.assertEqual(report["totals"]["done"], 50_000)
        self.assertEqual((report["files"]["files"], report["files"]["equal"]), (8, 8))
        self.assertEqual(len(report["events"]), 4)
        self.assertEqual(own_processes(f"127.0.0.1:{port}"), [])


class CompareTest(ScriptCase):
    def test_exec_and_xargs_run_the_same(self):
        done = self.script("compare-exec.sh", "--jobs", 40, "--parallel", 2, "--rounds", 1, "--json", "--port-base",
                           harness.free_ports(1)[0], "--dir", self.dir)
        report = json.loads(done.stdout)
        self.assertEqual((report["jobs"], report["parallel"], report["rounds"]), (40, 2, 1))
        self.assertGreater(min(report["xargs_per_second"], report["exec_per_second"]), 0)
        self.assertAlmostEqual(report["ratio"], report["exec_per_second"] / report["xargs_per_second"], delta=0.02)
        self.assertEqual(list(self.dir.glob("compare-exec.*")), [], "the run's directory is left behind")


class ScalingTest(ScriptCase):
    def test_one_broker_and_two_have_the_same_jobs(self):
        port = harness.free_ports(1)[0]
        done = self.script("bench-scaling.sh", "--brokers", 2, "--count", 5000, "--rounds", 1, "--json", "--port-base",
                           port, "--dir", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual((report["count"], [row["brokers"] for row in report["rows"]]), (5000, [1, 2]))
        for row in report["rows"]:
            self.assertGreater(min(row["rate"], row["ratio"]), 0)
            self.assertGreater(row["disk_bytes"], 256, "each payload goes to a disk")
        self.assertEqual(own_processes(f"127.0.0.1:{port}"), [])
        self.assertEqual(list(self.dir.glob("*bench*")), [], "the run's directories are left behind")


class VerdictTest(unittest.TestCase):
    """The demo's verdict on what it has seen: each loss is found."""

    def setUp(self):
        sys.path.insert(0, str(SCRIPTS / "bench"))
        self.addCleanup(sys.path.remove, str(SCRIPTS / "bench"))
        counts = {"sent": 3, "confirmed": 3, "completed": 3, "lost": 0, "dead": 0, "failed": 0, "unknown": 0,
                  "rejected": 0}
        self.good = {"expected": 3, "load": counts, "load_exit": 0, "audit": {}, "audit_exit": 0, "events": [],
                     "status": {"totals": {"accepted": 3, "done": 3, "attempts": 5, "crashes": 1, "failures": 0}},
                     "directory": "/somewhere", "names": ["/a", "/b b"], "digests": {"/a": "11", "/b b": "22"},
                     "files_exit": 0, "results": [{"seq": seq, "state": "done", "result": f"{digest}  -\n"}
                                                  for seq, digest in ((2, "22"), (1, "11"))]}

    def test_all_is_well(self):
        from demo import table, verdict
        made = verdict(self.good)
        self.assertEqual((made["ok"], made["problems"]), (True, []))
        self.assertIn("Nothing was lost", table(made)[-1])

    def test_each_loss_is_found(self):
        from demo import table, verdict
        load, totals = self.good["load"], self.good["status"]["totals"]
        losses = ({"load": {**load, "completed": 2}}, {"load": {**load, "lost": 1}}, {"load": {}},
                  {"status": {"totals": {**totals, "done": 2}}}, {"load_exit": 1}, {"audit_exit": 1}, {"files_exit": 1},
                  {"digests": {"/a": "11", "/b b": "23"}}, {"digests": {"/a": "11"}},
                  {"results": self.good["results"][:1]},
                  {"results": [{"seq": 2, "state": "dead"}, self.good["results"][1]]})
        for loss in losses:
            with self.subTest(loss=loss):
                made = verdict({**self.good, **loss})
                self.assertFalse(made["ok"])
                self.assertIn("FAILED", table(made)[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
