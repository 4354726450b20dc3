"""bench.sh's long part: what a backlog costs, in memory, at the start and while it is drained."""
import os
import statistics
import subprocess
import time
import urllib.request

import options
import rig
from options import Failure

SHALLOW, SHALLOW_ROUNDS = 100_000, 10  # jobs that fit in the memory for payloads
BUDGET_MIB = 64  # --memory
DRAIN_SECONDS = 600
WORKER = ("--pool", "fixed:1", "--queue", "bench=echo")


def load(own, count):
    own.load("--queue", "bench", "--size", 256, "--rate", "max", "--count", count, "--no-wait")


def pause(own):
    """The queue stands still until it is resumed, so that filling and draining are apart."""
    subprocess.run([own.programs / "millrace-broker", "queue", "pause", "bench", "--http", own.http], check=True,
                   stdout=subprocess.DEVNULL)


def drain(own, target):
    """Seconds from the queue's resuming until so many jobs are done in all."""
    request = urllib.request.Request(f"http://{own.http}/v1/queues/bench/resume", method="POST")
    began = time.monotonic()
    urllib.request.urlopen(request, timeout=30).close()
    if not rig.wait_until(lambda: rig.status(own.http, 30)["jobs"]["done"] >= target, DRAIN_SECONDS, 0.002):
        raise Failure(1, f"the backlog was not drained: not {target} jobs are done after {DRAIN_SECONDS} s")
    return time.monotonic() - began


def measure_shallow(own, flags):
    """The median rate of draining a backlog that is small."""
    options.note(f"draining {SHALLOW} jobs, {SHALLOW_ROUNDS} times")
    own.fresh(1, *WORKER, broker_flags=flags)
    load(own, 1)  # a queue exists as soon as it has had a job
    rates = []
    for number in range(1, SHALLOW_ROUNDS + 1):
        pause(own)
        load(own, SHALLOW)
        rates.append(SHALLOW / drain(own, 1 + number * SHALLOW))
    return statistics.median(rates)


def fill(own, jobs, flags):
    """[(jobs queued, KiB)], the first with none."""
    own.fresh(0, broker_flags=flags)
    steps = [(0, rig.resident_kib(own.pid("broker")))]
    load(own, 1)
    pause(own)
    queued = 1
    for step in (jobs // 10, jobs // 2, jobs):
        options.note(f"a backlog of {step}")
        load(own, step - queued)
        queued = step
        steps.append((step, rig.resident_kib(own.pid("broker"))))
    return steps


def memory_of(steps):
    """A job's share is what is above the empty broker and its payloads' budget (below 0: the budget is not used up)."""
    (_, fresh), *steps = steps
    fixed = fresh + BUDGET_MIB * 1024
    (first, first_kib), (last, last_kib) = steps[-2:]
    return {"fresh_rss_mib": round(fresh / 1024, 1), "payloads_mib": BUDGET_MIB,
            "queued": [{"jobs": jobs, "rss_mib": round(kib / 1024, 1),
                        "bytes_per_job": round((kib - fixed) * 1024 / jobs, 1)} for jobs, kib in steps],
            "bytes_per_further_job": round((last_kib - first_kib) * 1024 / (last - first), 1)}


def segments(own):
    return sorted((own.directory / "data").glob("segment-*.mrj"))


def forget(own):
    """Puts the journal out of the page cache."""
    for path in segments(own):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_plainly(own):
    """(bytes, seconds) of reading the journal and nothing else."""
    buffer = memoryview(bytearray(1 << 20))
    total, began = 0, time.monotonic()
    for path in segments(own):
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    return total, time.monotonic() - began


def start_seconds(own, flags):
    """From the start to the first 200 of /readyz."""
    began = time.monotonic()
    own.spawn_broker("--fsync", "always", *flags)
    own.await_process("broker", lambda: rig.answers(own.http), "the broker is not ready", poll=0.01)
    return time.monotonic() - began


def measure_starts(own, flags):
    """Each start is on the whole journal; the first has it on the disk only."""
    recovery = {}
    for cache in ("cold", "warm"):
        options.note(f"kill -9 and start, {cache} cache")
        own.kill("broker")
        if cache == "cold":
            forget(own)
        size, plain = read_plainly(own)
        if cache == "cold":
            forget(own)
        start = start_seconds(own, flags)
        recovery[cache] = {"journal_bytes": size, "plain_seconds": round(plain, 3), "start_seconds": round(start, 3),
                           "plain_gb_per_second": round(size / plain / 1e9, 2),
                           "start_gb_per_second": round(size / start / 1e9, 2)}
    options.note("a clean stop and start")
    own.stop("broker")
    stopped = start_seconds(own, flags)
    by_snapshot = "snapshot read" in own.log("broker").read_text(errors="replace")
    return recovery, {"seconds": round(stopped, 3), "by_snapshot": by_snapshot}


def measure(own, jobs):
    flags = ("--memory", f"{BUDGET_MIB}MiB", "--max-queued", jobs * 2)
    shallow = measure_shallow(own, flags)
    memory = memory_of(fill(own, jobs, flags))
    after_kill, after_stop = measure_starts(own, flags)
    options.note(f"draining {jobs}")
    own.start_worker("worker-1", *WORKER)
    own.await_workers()
    deep = jobs / drain(own, jobs)
    return {"jobs": jobs, "memory": memory, "start_after_kill": after_kill, "start_after_stop": after_stop,
            "drain": {"shallow_jobs": SHALLOW, "shallow_jobs_per_second": round(shallow), "jobs_per_second": round(deep),
                      "of_shallow": round(deep / shallow, 2)}}


def rows(made):
    memory, drained, stop = made["memory"], made["drain"], made["start_after_stop"]
    lines = [("broker's memory (RSS), empty; budget for payloads",
              f"{memory['fresh_rss_mib']} MiB; {memory['payloads_mib']} MiB")]
    lines += [(f"broker's memory (RSS), {step['jobs']:,} jobs of 256 B queued",
               f"{step['rss_mib']} MiB = {step['bytes_per_job']} B per job above these") for step in memory["queued"]]
    lines.append(("each further job", f"{memory['bytes_per_further_job']} B"))
    for cache, figures in made["start_after_kill"].items():
        lines.append((f"start to ready after kill -9, {cache} cache",
                      f"{figures['start_seconds']:.2f} s = {figures['start_gb_per_second']} GB/s"))
        lines.append((f"plainly reading the same files, {cache} cache",
                      f"{figures['plain_seconds']:.2f} s = {figures['plain_gb_per_second']} GB/s"))
    lines.append(("start to ready after a clean stop",
                  f"{stop['seconds']:.2f} s, {'by a snapshot' if stop['by_snapshot'] else 'without a snapshot'}"))
    lines.append((f"drained, {drained['shallow_jobs']:,} jobs queued", f"{drained['shallow_jobs_per_second']:,} jobs/s"))
    return [*lines, (f"drained, {made['jobs']:,} jobs queued",
                     f"{drained['jobs_per_second']:,} jobs/s = {drained['of_shallow']} of that")]
