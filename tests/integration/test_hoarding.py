"""Jobs that wait at one worker go to those that are idle."""
import unittest

import harness


class HoardingTest(harness.Case):
    def submit(self, broker, *payloads):
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-",
                               stdin="".join(f"{payload}\n" for payload in payloads).encode())
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_short_jobs_do_not_wait_behind_a_long_one_while_others_are_idle(self):
        broker = self.broker().start()
        self.worker(broker, "q=exec:sleep $(cat)", pool="fixed:1", flags=("--prefetch", 8)).start()
        broker.wait_workers(1)
        self.submit(broker, 3600, 0, 0, 0, 0)
        broker.wait_jobs(leased=5)  # all of them there: nobody else has asked
        self.worker(broker, "q=exec:sleep $(cat)", pool="fixed:1", name="idle").start()
        broker.wait_jobs(done=4, leased=1)
        explained = broker.get("/v1/jobs/1")
        self.assertEqual(explained["attempts"], 1, explained)


if __name__ == "__main__":
    unittest.main()
