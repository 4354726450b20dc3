"""examples/slurm: the batch file as it is, on two hosts, with an srun that starts a task on each."""
import json
import os
import subprocess
import unittest
from pathlib import Path

import network
from hosts_harness import BIN, ROOT, HostsCase

SRUN = """#!/bin/sh
# Runs a command on every node, and passes SIGTERM on.
while [ "${{1#--}}" != "$1" ]; do shift; done
for node in {nodes}; do ip netns exec $node "$@" & pids="$pids $!"; done
trap 'kill -s TERM $pids' TERM
while :; do wait && exit; done
"""


class SlurmTest(HostsCase):
    names = ("b", "w1")
    lines = ("{b} role=broker",)

    def test_a_job_for_each_line_and_everything_ended_after(self):
        programs = self.dir / "programs"
        programs.mkdir()
        (programs / "srun").write_text(SRUN.format(nodes="b w1"))
        (programs / "srun").chmod(0o755)
        (self.dir / "lines").write_text("".join(f"line {i}\n" for i in range(200)))
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "MILLRACE_BIN": str(BIN),
                       "SLURM_JOB_ID": "17", "SLURMD_NODENAME": self.host("b").address, "SLURM_CPUS_ON_NODE": "2"}
        done = subprocess.run(
            self.host("b").command("bash", ROOT / "examples/slurm/millrace.sbatch", "exec:cat", "lines", "results"),
            cwd=self.dir, env=environment, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        results = [json.loads(line) for line in (self.dir / "results").read_text().splitlines()]
        self.assertEqual({result["result"] for result in results}, {f"line {i}" for i in range(200)})
        self.assertEqual({result["state"] for result in results}, {"done"})
        for name in self.names:
            commands = [Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8") for pid in self.host(name).pids()]
            self.assertFalse([command for command in commands if "millrace" in command and "sshd" not in command])


if __name__ == "__main__":
    network.enter()
    unittest.main(verbosity=2)
