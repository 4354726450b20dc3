"""Jobs that wait at one worker go to those that are idle; who stood still starts nothing that others have."""
import contextlib
import ctypes
import os
import signal
import unittest
from pathlib import Path

import harness
from harness import wait_until

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


def ptrace(request, pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


@contextlib.contextmanager
def session_thread_stopped(pid):
    """The worker's thread that speaks with the broker stands still; its other threads run on."""
    [thread] = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
                if (task / "comm").read_text().strip() == "millrace-runner"]
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread)


class HoardingTest(harness.Case):
    def workers(self, broker):
        return {worker["name"]: worker["in_flight"] for worker in broker.status()["workers"]}

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

    def test_a_worker_that_stood_still_starts_nothing_that_others_have_run(self):
        broker = self.broker("--heartbeat", "200ms").start()
        go, ran = self.dir / "go", self.dir / "ran"
        handler = (f"q=exec:[ $(cat) = short ] || until [ -e {go} ]; do sleep 0.02; done; "
                   f"echo $MILLRACE_JOB_ID >> {ran}")
        stopped = self.worker(broker, handler, pool="fixed:1", flags=("--prefetch", 8, "--name", "stopped")).start()
        broker.wait_workers(1)
        self.submit(broker, "long", *["short"] * 5)
        broker.wait_jobs(leased=6)
        stopped.send_signal(signal.SIGSTOP)
        broker.wait_jobs(leased=0, ready=6)  # it counts as lost
        go.touch()
        self.worker(broker, handler, pool="fixed:1", name="other", flags=("--name", "other")).start()
        broker.wait_jobs(done=6)
        stopped.send_signal(signal.SIGCONT)
        wait_until(lambda: self.workers(broker) == {"stopped": 0, "other": 0}, what="the worker's return")
        wait_until(lambda: "suspended for longer" in stopped.text(), what="the worker's word on it")
        self.submit(broker, *["short"] * 4)  # it works on
        broker.wait_jobs(done=10)
        times = {job: ran.read_text().split().count(job) for job in set(ran.read_text().split())}
        long = min(times, key=lambda job: int(job.rsplit("-", 1)[1]))
        self.assertEqual(times.pop(long), 2)  # which had started at both
        self.assertEqual(set(times.values()), {1}, times)

    def test_threads_start_nothing_while_the_session_thread_stands_still(self):
        broker = self.broker("--heartbeat", "200ms").start()
        threads, shorts = 4, 8
        go, started, ended = self.dir / "go", self.dir / "started", self.dir / "ended"
        handler = (f"q=exec:echo $MILLRACE_JOB_ID >> {started}; [ $(cat) = short ] || until [ -e {go} ]; "
                   f"do sleep 0.02; done; echo $MILLRACE_JOB_ID >> {ended}")
        stopped = self.worker(broker, handler, pool=f"fixed:{threads}",
                              flags=("--prefetch", threads + shorts, "--name", "stopped")).start()
        broker.wait_workers(1)
        self.submit(broker, *["long"] * threads, *["short"] * shorts)
        broker.wait_jobs(leased=threads + shorts)
        wait_until(lambda: started.exists() and len(started.read_text().split()) == threads, what="the long jobs' start")
        try:
            with session_thread_stopped(stopped.pid):
                broker.wait_jobs(leased=0, ready=threads + shorts)  # it counts as lost
                go.touch()
                # Each thread has ended its job, and would take the next.
                wait_until(lambda: ended.exists() and len(ended.read_text().split()) == threads, what="the long jobs' end")
                self.worker(broker, "q=exec:cat", pool="fixed:1", name="other", flags=("--name", "other")).start()
                broker.wait_jobs(done=threads + shorts)
                self.assertEqual(len(started.read_text().split()), threads)
        except PermissionError:
            self.skipTest("needs the right to trace its children")
        wait_until(lambda: self.workers(broker) == {"stopped": 0, "other": 0}, what="the worker's return")
        self.assertEqual(len(started.read_text().split()), threads)


if __name__ == "__main__":
    unittest.main()
