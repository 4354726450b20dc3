"""One old job must not keep all that came after it: the journal stays bounded, and the old job stays."""
import base64
import unittest

import harness
from harness import read_lines, wait_until

SEGMENT = 64 << 20
KEPT_EACH_ROUND = 5


class CompactionTest(harness.Case):
    def journal_bytes(self, broker):
        return sum(file.stat().st_blocks * 512 for file in broker.data.iterdir())

    def test_jobs_that_stay_do_not_keep_the_segments_of_those_that_went(self):
        broker = self.broker("--memory", "16MiB").start()
        self.worker(broker, "go=echo").start()
        kept, payload = [], b"x" * 500_000
        rounds = 20
        for i in range(rounds):
            lines = []
            for k in range(KEPT_EACH_ROUND):
                kept.append(f"kept {i} {k} " + "k" * 2000)
                lines.append(kept[-1].encode() + b"\n")
            process = self.produce("submit", broker, "--queue", "keep", "--lines", "-", stdin=b"".join(lines))
            self.assertEqual(process.returncode, 0, process.stderr)
            process = self.produce("load", broker, "--queue", "go", "--count", "60", "--rate", "max",
                                   "--size", str(len(payload)), "--json")
            self.assertEqual(process.returncode, 0, process.stderr)
        broker.wait_jobs(done=60 * rounds, ready=len(kept))
        written = 60 * rounds * len(payload)
        self.assertGreater(written, 8 * SEGMENT)
        live = sum(len(text) for text in kept)
        limit = 3 * live + 4 * SEGMENT
        wait_until(lambda: self.journal_bytes(broker) <= limit, what=f"a journal of at most {limit} bytes")

        broker.restart()
        self.assertEqual(broker.jobs()["ready"], len(kept))
        out = self.dir / "out"
        self.worker(broker, f"keep=exec:base64 -w0 >>{out}; echo >>{out}", pool="fixed:1", name="late").start()
        broker.wait_jobs(ready=0, leased=0)
        self.assertEqual(sorted(base64.b64decode(line).decode() for line in read_lines(out)), sorted(kept))


if __name__ == "__main__":
    unittest.main(verbosity=2)
