"""The main promise under fire: the broker and its workers are killed at random moments of a load, and
an independent witness, a file that each execution appends its job's id to, says what ran."""
import collections
import os
import random
import time
import unittest

import harness
from harness import read_lines, scaled, wait_until

KILLS = 4 if harness.SANITIZED else 20
WORKERS = 3


class ChaosTest(harness.Case):
    def test_brokers_and_workers_killed_under_load(self):
        seed = int(os.environ.get("MILLRACE_SEED", random.SystemRandom().randrange(2**32)))
        print(f"seed {seed}: to repeat the moments, MILLRACE_SEED={seed}", flush=True)
        chance = random.Random(seed)
        witness, ledger = self.dir / "witness", self.dir / "ledger"
        broker = self.broker("--heartbeat", "200ms", "--backoff", "10ms..100ms", "--max-attempts", 255).start()
        handler = f'q=exec:echo "$MILLRACE_JOB_ID" >>{witness}'
        workers = [self.worker(broker, handler, pool="fixed:3", name=f"worker-{i}").start() for i in range(WORKERS)]
        count = 1500 if harness.SANITIZED else 9000
        load = self.producer("load", broker, "--queue", "q", "--rate", count // 30, "--count", count,
                             "--verify", "--ledger", ledger, "--json").start()

        kills = ["broker"] * KILLS + ["worker"] * KILLS
        chance.shuffle(kills)
        for victim in kills:
            time.sleep(chance.uniform(0.1, 1.2) * 30 / 26 * (3 if harness.SANITIZED else 1))
            if victim == "broker":
                broker.restart()
            else:
                chosen = chance.choice(workers)
                chosen.kill()
                chosen.start()
        self.assertIn(load.wait(4 * harness.DEADLINE), (0,), load.text()[-2000:])
        broker.wait_jobs(ready=0, leased=0, retry_wait=0)
        self.check(broker, count, witness, ledger, load)

    def check(self, broker, count, witness, ledger, load):
        status = broker.status()
        report = load.report()
        self.assertEqual((report["sent"], report["confirmed"], report["completed"]), (count, count, count))
        self.assertEqual((report["lost"], report["duplicates"], report["dead"]), (0, 0, 0))
        self.assertEqual((status["totals"]["accepted"], status["totals"]["done"]), (count, count))
        self.audit(broker, ledger)

        ran = collections.Counter(read_lines(witness))
        wanted = {f"{status['broker']}-{job}" for job in range(1, count + 1)}
        self.assertEqual(set(ran) - wanted, set(), "jobs ran that were never sent")
        self.assertEqual(wanted - set(ran), set(), "confirmed jobs never ran")
        again = sum(ran.values()) - count
        totals = status["totals"]
        print(f"{count} jobs; {again} executions more than jobs; {totals['attempts'] - count} leases more, "
              f"{totals['crashes']} crashes charged", flush=True)
        # What ran again had another lease; what was charged was one of the three that a killed worker ran.
        self.assertLessEqual(again, totals["attempts"] - count)
        self.assertLessEqual(totals["crashes"], 3 * KILLS)


class StillTest(harness.Case):
    def test_brokers_killed_while_workers_live_repeat_nothing(self):
        """Without a dead worker there is no reason to run anything twice."""
        broker = self.broker("--heartbeat", "200ms").start()
        witness, ledger = self.dir / "witness", self.dir / "ledger"
        for i in range(2):
            self.worker(broker, f'q=exec:echo "$MILLRACE_JOB_ID" >>{witness}', pool="fixed:3", name=f"worker-{i}").start()
        count = scaled(3000)
        load = self.producer("load", broker, "--queue", "q", "--rate", 400, "--count", count, "--verify",
                             "--ledger", ledger).start()
        for part in range(1, 6):
            wait_until(lambda: broker.status()["totals"]["done"] >= count * part / 6, what="progress")
            broker.restart()
        self.assertEqual(load.wait(3 * harness.DEADLINE), 0, load.text()[-2000:])
        ran = collections.Counter(read_lines(witness))
        self.assertEqual((len(ran), sum(ran.values())), (count, count))
        self.assertEqual(broker.status()["totals"]["crashes"], 0)
        self.audit(broker, ledger)


if __name__ == "__main__":
    unittest.main(verbosity=2)
