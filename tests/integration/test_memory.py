"""A broker that gets no more memory lives, says so, and takes jobs again when there is some."""
import os
import resource
import unittest
from pathlib import Path

import harness

KIB, MIB = 1 << 10, 1 << 20
# What the broker may still take when the limit is set: more than it must have free to take jobs, and less
# than the jobs that come.
LEFT = 100 * MIB
JOBS = 4000


def address_space(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@unittest.skipIf(harness.SANITIZED, "sanitizers need address space without end")
class MemoryTest(harness.Case):
    def test_new_jobs_are_rejected_until_there_is_memory_again(self):
        broker = self.broker("--memory", "1GiB").start()
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "first").returncode, 0)
        _, hard = resource.prlimit(broker.pid, resource.RLIMIT_AS)
        resource.prlimit(broker.pid, resource.RLIMIT_AS, (address_space(broker.pid) + LEFT, hard))
        load = self.producer("load", broker, "--queue", "q", "--count", str(JOBS), "--size", str(64 * KIB), "--rate",
                             "max", "--no-wait").start()
        harness.wait_until(lambda: "no more memory" in broker.text(), what="the shortage in the log")
        load.wait()
        status = broker.status()
        self.assertGreater(status["totals"]["rejected"], 0)
        confirmed = JOBS - status["totals"]["rejected"]
        self.assertGreater(confirmed, 0, "jobs are taken while there is memory")
        # Completions are taken meanwhile.
        self.worker(broker, "q=echo").start()
        broker.wait_jobs(done=1 + confirmed)
        # What they took is free then, with the limit as it is.
        self.assertEqual(self.produce("submit", broker, "--queue", "q", "last").returncode, 0)
        broker.wait_jobs(done=2 + confirmed)
        self.assertIn("there is memory again", broker.text())


if __name__ == "__main__":
    unittest.main()
