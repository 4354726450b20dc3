"""The processes of handlers: none outlives its job or its worker, and none is left as a zombie."""
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import harness
from harness import wait_until

OTHER_USER = 54321  # that has no processes yet
KILLER = harness.BIN.parent / "lib" / "kill_before_call.so"
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def may_unshare():
    return subprocess.run([*UNSHARE, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def is_built_with_tsan():
    return harness.SANITIZED and b"__tsan_init" in (harness.BIN / "millrace-worker").read_bytes()


def state_of(pid):
    """The letter that ps shows; "" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_alive(pid):
    return state_of(pid) not in ("", "Z", "X")


def descendants(pid):
    """Of a running process, the dead ones too; what ends while it is looked at may be missing."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


class ProcessesTest(harness.Case):
    def pids(self, count):
        """What commands have written into the directory's file."""
        file = self.dir / "pids"
        wait_until(lambda: file.exists() and len(file.read_text().split()) >= count, what=f"{count} processes")
        return [int(pid) for pid in file.read_text().split()]

    def handler(self, command):
        return f"q=exec:echo() {{ command echo \"$@\" >>{self.dir}/pids; }}; {command}"

    def submit(self, broker, count=1, *flags):
        lines = "".join(f"{i}\n" for i in range(count)).encode()
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", *flags, stdin=lines)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process.stdout.decode().split()


class WorkerEndTest(ProcessesTest):
    def test_commands_do_not_outlive_a_worker_that_is_killed(self):
        broker = self.broker().start()
        command = "trap '' TERM; setsid sleep 1000 & echo $!; sleep 1000 & echo $!; echo $$; wait"
        worker = self.worker(broker, self.handler(command), pool="fixed:3").start()
        self.submit(broker, 3)
        pids = self.pids(9)
        pids += descendants(worker.pid)
        worker.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids), deadline=1, what="the end of all commands")

    def test_a_drain_ends_commands_gently_and_charges_nothing(self):
        broker = self.broker().start()
        command = f"trap 'touch {self.dir}/cleaned; exit 1' TERM; echo $$; while :; do sleep 0.02; done"
        worker = self.worker(broker, self.handler(command), pool="fixed:1", flags=("--drain-timeout", "100ms")).start()
        [job] = self.submit(broker)
        self.pids(1)
        begin = time.monotonic()
        self.assertEqual(worker.terminate(), 0, worker.text())
        self.assertLess(time.monotonic() - begin, 4)  # it does not sit out --kill-after
        self.assertTrue((self.dir / "cleaned").exists())
        shown = json.loads(broker.get(f"/v1/jobs/{job}")[1])
        self.assertEqual((shown["state"], broker.status()["totals"]["failures"]), ("ready", 0))

    def test_a_drain_kills_what_ignores_sigterm(self):
        broker = self.broker().start()
        worker = self.worker(broker, self.handler("trap '' TERM; echo $$; sleep 1000 & wait; sleep 1000"), pool="fixed:1",
                             flags=("--drain-timeout", "100ms", "--kill-after", "300ms")).start()
        self.submit(broker)
        [pid] = self.pids(1)
        self.assertEqual(worker.terminate(), 0, worker.text())
        self.assertFalse(is_alive(pid))
        broker.wait_jobs(ready=1)


    def test_commands_do_not_outlive_a_spawn_server_that_is_killed(self):
        broker = self.broker("--backoff", "20ms..100ms").start()
        worker = self.worker(broker, self.handler(
            f"if mkdir {self.dir}/first; then setsid sleep 1000 & echo $!; env -i setsid sleep 1000 & echo $!; wait; fi"),
                             pool="fixed:2").start()
        self.submit(broker)
        pids = self.pids(2)
        [_, server, *commands] = descendants(worker.pid)
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in [server, *pids, *commands]), deadline=1,
                   what="the end of all commands")
        self.submit(broker, 20)
        broker.wait_jobs(done=21)
        wait_until(lambda: len(descendants(worker.pid)) == 2, what="the new spawn server and its guard alone")
        self.assertEqual(broker.status()["totals"]["failures"], 0)
        self.assertEqual(worker.text().count("the spawn server was killed"), 1)


class StopTest(ProcessesTest):
    def test_a_cancelled_command_ends_with_all_its_sessions(self):
        broker = self.broker().start()
        self.worker(broker, self.handler("setsid sleep 1000 & echo $!; sleep 1000 & echo $!; sleep 1000"),
                    pool="fixed:1").start()
        [job] = self.submit(broker)
        pids = self.pids(2)
        self.run_program("millrace-broker", "job", "cancel", job, "--http", f"127.0.0.1:{broker.http_port}")
        wait_until(lambda: not any(is_alive(pid) for pid in pids), what="the end of the cancelled command")

    @unittest.skipUnless(may_unshare(), "needs the right to make a PID namespace")
    def test_a_worker_that_is_pid_1_leaves_no_zombies(self):
        broker = self.broker().start()
        worker = self.worker(broker, "q=exec:sleep 1000 & setsid sleep 1000 & (sh -c 'exit 0' & exit 0); true", pool="fixed:4")
        worker.arguments = [*UNSHARE, *worker.arguments]
        worker.start()
        self.submit(broker, 200)
        broker.wait_jobs(done=200)
        wait_until(lambda: len(descendants(worker.pid)) == 3, what="the worker, guard and spawn server alone")
        self.assertEqual([state_of(pid) for pid in descendants(worker.pid)].count("Z"), 0)


class ThrottleTest(ProcessesTest):
    def throttled(self, port):
        shown = self.run_program("millrace-worker", "status", "--http", f"127.0.0.1:{port}", "--json")
        return shown.returncode == 0 and json.loads(shown.stdout)["lanes"][0]["throttled"]

    def test_a_worker_short_of_descriptors_charges_nothing(self):
        broker = self.broker("--backoff", "20ms..100ms").start()
        worker = self.worker(broker, "q=exec:sleep 0.1", pool="fixed:40")
        worker.arguments = ["sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *worker.arguments]
        self.submit(broker, 60)
        worker.start()
        broker.wait_jobs(done=60)
        self.assertEqual(broker.status()["totals"]["failures"], 0)
        self.assertEqual(worker.text().count("short of resources"), 1)

    def limit_processes(self, worker, server, soft):
        """By the worker's user, since root may lack the right to."""
        subprocess.run(["prlimit", f"--pid={server}", f"--nproc={soft}:"], check=True, user=worker.user)

    def test_a_worker_out_of_processes_charges_nothing_and_recovers(self):
        """The limit is of a user: root has none, so the worker runs as somebody else."""
        broker = self.broker("--backoff", "20ms..100ms").start()
        [port] = harness.free_ports(1)
        worker = self.worker(broker, "q=exec:true", pool="fixed:4", flags=("--http", f"127.0.0.1:{port}"))
        if os.geteuid() == 0:
            worker.user = OTHER_USER
        # As another user than root also where nobody but root may enter the build's directory.
        if subprocess.run([worker.arguments[0], "--version"], check=False, user=worker.user, capture_output=True).returncode:
            self.skipTest(f"user {OTHER_USER} may not execute {worker.arguments[0]}")
        worker.start()
        broker.wait_workers(1)
        [_, server] = wait_until(lambda: [] if len(descendants(worker.pid)) < 2 else descendants(worker.pid), what="the spawn server")
        self.limit_processes(worker, server, "1")
        self.submit(broker, 60)
        throttled = wait_until(lambda: self.throttled(port), what="being throttled")
        self.assertEqual(throttled["state"], "short")
        self.assertIn("temporarily unavailable", throttled["why"])
        self.assertEqual(broker.jobs()["done"], 0)
        self.limit_processes(worker, server, resource.getrlimit(resource.RLIMIT_NPROC)[0])
        broker.wait_jobs(done=60)
        self.assertEqual(broker.status()["totals"]["failures"], 0)
        self.assertEqual(worker.text().count("short of resources"), 1)

    @unittest.skipIf(harness.SANITIZED, "a sanitizer needs terabytes of address space")
    def test_a_worker_short_of_memory_charges_nothing(self):
        for mebibytes in (96, 128):
            with self.subTest(mebibytes=mebibytes):
                broker = self.broker("--max-job-size", "16MiB", name=f"broker-{mebibytes}").start()
                lines = b"".join(b"%d%s\n" % (i, b"x" * 5_000_000) for i in range(24))
                worker = self.worker(broker, "q=exec:cat", pool="fixed:8", name=f"worker-{mebibytes}")
                worker.arguments = ["prlimit", f"--as={mebibytes << 20}", *worker.arguments]
                worker.start()
                process = self.produce("submit", broker, "--queue", "q", "--lines", "-", "--wait", "--results",
                                       self.dir / "results", stdin=lines)
                self.assertEqual(process.returncode, 0, process.stderr)
                totals = broker.status()["totals"]
                self.assertEqual((totals["failures"], totals["crashes"]), (0, 0), worker.text())
                self.assertEqual(worker.terminate(), 0)

    def test_a_host_where_everything_fails_uses_up_few_attempts(self):
        broker = self.broker("--backoff", "20ms..100ms").start()
        self.submit(broker, 300, "--max-attempts", "20")
        [port] = harness.free_ports(1)
        worker = self.worker(broker, f"q=exec:test -e {self.dir}/well", pool="fixed:4",
                             flags=("--http", f"127.0.0.1:{port}")).start()
        wait_until(lambda: self.throttled(port), what="being throttled")
        self.assertEqual(self.throttled(port)["state"], "failing")
        wait_until(lambda: self.throttled(port)["pause_ms"] >= 2000, what="a vain attempt")
        # The twentieth in a row, what threads took before the worker saw it (it holds 20 ms of work),
        # and a vain attempt; of 6,000 that there could be.
        self.assertLessEqual(broker.status()["totals"]["failures"], 20 + 4 * 20 + 1)
        (self.dir / "well").touch()
        broker.wait_jobs(done=300)
        self.assertIsNone(self.throttled(port))
        self.assertEqual(worker.text().count("all jobs fail"), 1)


def with_variable(text):
    """The processes that were started with this text in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(int(pid))
        except OSError:
            pass
    return [pid for pid in found if is_alive(pid)]


# A line that ends without a newline is a part of one, from a worker that was killed.
STREAM_PROGRAM = """
import hashlib, json, sys
for line in sys.stdin:
    if not line.endswith("\\n"):
        break
    job = json.loads(line)
    size, sum, body = job["payload"].split()
    if len(body) != int(size) or hashlib.md5(body.encode()).hexdigest() != sum:
        open(sys.argv[1], "a").write("cut")
    print(json.dumps({"id": job["id"], "result": ""}), flush=True)
"""


RECORDING_PROGRAM = """
import json, sys
for line in sys.stdin:
    if line.endswith("\\n"):
        job = json.loads(line)
        open(sys.argv[1], "a").write(job["id"] + "\\n")
        print(json.dumps({"id": job["id"]}), flush=True)
"""


def storm_step(sampled):
    """All of the calls with MILLRACE_STORM=full (scripts/storm.sh), a sample in continuous integration."""
    return 1 if os.environ.get("MILLRACE_STORM") == "full" else sampled


class StormTest(ProcessesTest):
    """Each handler compares its input with the length and the checksum in its first words, the length at once:
    what has lost its worker is killed soon."""

    def start_broker(self):
        return self.broker("--liveness", "2", "--heartbeat", "200ms", "--crash-limit", "255", "--backoff", "20ms..100ms").start()

    def submit_checked(self, broker, count, sizes):
        lines = []
        for i in range(count):
            body = str(i) * (sizes[i % len(sizes)] // len(str(i)))
            lines.append(f"{len(body)} {hashlib.md5(body.encode()).hexdigest()} {body}\n")
        process = self.produce("submit", broker, "--queue", "q", "--lines", "-", "--max-attempts", "255",
                               stdin="".join(lines).encode())
        self.assertEqual(process.returncode, 0, process.stderr)

    @property
    def check(self):
        cut = f"command echo cut >>{self.dir}/cut"
        return (f"read -r size sum body; test ${{#body}} = \"$size\" || {cut}; "
                f"test \"$(printf %s \"$body\" | md5sum)\" = \"$sum  -\" || {cut}")

    def test_workers_killed_at_any_moment_start_nothing_with_half_a_payload(self):
        broker = self.start_broker()
        self.submit_checked(broker, 1000, (20_000, 80_000))
        chance = random.Random(14)
        end = time.monotonic() + (20 if harness.SANITIZED else 6)
        rounds = 0
        while time.monotonic() < end:
            worker = self.worker(broker, f"q=exec:{self.check}", pool="fixed:4", name=f"worker-{rounds}").start()
            wait_until(lambda: len(descendants(worker.pid)) > 2 or not broker.jobs()["ready"], interval=0.001,
                       what="a command")
            time.sleep(chance.uniform(0, 0.05))  # the moment is what is random here
            left = descendants(worker.pid)
            worker.kill()
            wait_until(lambda: not any(is_alive(pid) for pid in left), deadline=1, interval=0.002,
                       what=f"the end of all commands in round {rounds}")
            rounds += 1
        self.assertGreater(rounds, 10)
        self.assertFalse((self.dir / "cut").exists())

    def start_with_order(self, broker, handler, trigger, victim, number, action=signal.SIGKILL, flags=()):
        """A worker, whose victim gets a signal before the trigger's call of this number; and the file that says so."""
        mark = self.dir / f"{handler.partition(':')[0]}-{victim}-before-{trigger}-{number}"
        worker = self.worker(broker, f"q={handler}", pool="fixed:2", name=mark.name, flags=flags)
        worker.env = {"LD_PRELOAD": str(KILLER), "MILLRACE_KILL": f"{trigger} {victim} {number} {mark} {int(action)}",
                      "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        worker.start()
        wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), interval=0.005, what=mark.name)
        return worker, mark

    def kill_before_call(self, broker, handler, trigger, victim, number):
        """One worker, which runs jobs until the victim is killed before the trigger's call of this number."""
        worker, mark = self.start_with_order(broker, handler, trigger, victim, number)
        if victim == "server":
            server = int(mark.read_text())
            wait_until(lambda: not with_variable(f"MILLRACE_COMMAND_ID={server}."), deadline=1, interval=0.01,
                       what=f"the end of the commands of {mark.name}")
            done = broker.jobs()["done"]
            wait_until(lambda: broker.jobs()["done"] > done, interval=0.005, what=f"a job after {mark.name}")
            worker.kill()
        else:
            worker.child.wait(10)
            self.assertEqual(worker.child.returncode, -signal.SIGKILL)
        wait_until(lambda: not with_variable(mark.name), deadline=1, interval=0.01, what=f"the end of all of {mark.name}")

    @unittest.skipIf(is_built_with_tsan(), "ThreadSanitizer loses track of calls that a library passes on")
    def test_workers_and_spawn_servers_killed_before_each_call_leave_nothing(self):
        self.storm(f"exec:{self.check}; setsid sleep 1000 & sleep 0.02", 9 if harness.SANITIZED else 4)

    @unittest.skipIf(is_built_with_tsan(), "ThreadSanitizer loses track of calls that a library passes on")
    def test_the_same_with_a_stream_handler(self):
        program = self.dir / "stream.py"
        program.write_text(STREAM_PROGRAM)
        self.storm(f"stream:setsid sleep 1000 & exec {sys.executable} {program} {self.dir}/cut", 12 if harness.SANITIZED else 5)

    def storm(self, handler, step):
        """Each `step`-th call of the first ones."""
        broker = self.start_broker()
        step = storm_step(step)
        for trigger, victim in (("worker", "worker"), ("server", "server"), ("server", "worker")):
            # A stream handler's server starts two children, and then has nothing to do.
            last = 50 if handler.startswith("exec:") else 25 if trigger == "worker" else 12
            for number in range(1, last + 1, step):
                if broker.jobs()["ready"] < 50:
                    self.submit_checked(broker, 400, (3_000, 80_000))
                self.kill_before_call(broker, handler, trigger, victim, number)
                self.assertFalse((self.dir / "cut").exists(), f"{victim} before call {number} of {trigger}")


    def stop_before_call(self, broker, handler, number, started):
        """The worker stands still before its call of this number until another one has run all of its jobs; then it
        starts none of them, not even the one that it was about to start, and works on."""
        self.submit(broker, 10)
        stopped, mark = self.start_with_order(broker, handler, "worker", "worker", number, signal.SIGSTOP,
                                              ("--prefetch", "6", "--name", "stopped"))
        before = broker.jobs()["done"]
        wait_until(lambda: state_of(stopped.pid) == "T", interval=0.005, what=f"the stop of {mark.name}")
        wait_until(lambda: not any(worker["connected"] for worker in broker.status()["workers"]), what="its loss")
        other = self.worker(broker, f"q={handler}", pool="fixed:2", name=f"other-{number}").start()
        broker.wait_jobs(ready=0, leased=0, retry_wait=0)
        self.assertGreaterEqual(broker.jobs()["done"], before)
        self.assertEqual(other.terminate(), 0)
        lines = started.read_text().split()
        stopped.send_signal(signal.SIGCONT)
        wait_until(lambda: "suspended for longer" in stopped.text(), what=f"{mark.name} noticing that it was suspended")
        [job] = self.submit(broker)
        broker.wait_jobs(ready=0, leased=0, retry_wait=0)
        self.assertEqual(started.read_text().split()[len(lines):], [job], mark.name)
        self.assertEqual(stopped.terminate(), 0)

    @unittest.skipIf(is_built_with_tsan(), "ThreadSanitizer loses track of calls that a library passes on")
    def test_workers_stopped_before_each_call_start_nothing_that_others_have_run(self):
        broker = self.start_broker()
        started = self.dir / "started"
        started.touch()
        for number in range(1, 26, storm_step(7)):
            self.stop_before_call(broker, f"exec:echo $MILLRACE_JOB_ID >>{started}", number, started)

    @unittest.skipIf(is_built_with_tsan(), "ThreadSanitizer loses track of calls that a library passes on")
    def test_the_same_stops_with_a_stream_handler(self):
        broker = self.start_broker()
        program, started = self.dir / "stream.py", self.dir / "started"
        program.write_text(RECORDING_PROGRAM)
        started.touch()
        for number in range(1, 21, storm_step(10)):
            self.stop_before_call(broker, f"stream:exec {sys.executable} {program} {started}", number, started)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    unittest.main()
