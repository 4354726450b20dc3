"""What takes HTTP in front of the work: the gateway of a cluster, or a server that works without a queue."""
import time

import rig

QUEUE = "overload"
TARGET = f"/v1/queues/{QUEUE}/jobs"  # of both, where a job is POSTed
OFFSETS = (0, 1, 10, 12)
STATUS_SECONDS = 60  # a server that is overloaded answers when it has run what waits in front
STILL_SECONDS = 30  # without a job done: then no more will be


def port(own):
    return own.base + 12


def address(own):
    return f"127.0.0.1:{port(own)}"


def start_direct(own, handler):
    """Its name, and where to ask for totals."""
    own.stop_all()
    own.start("direct", "millrace-worker", "direct", "--http", address(own), "--handler", handler)
    own.await_process("direct", lambda: rig.answers(address(own), "/healthz"), "the direct server does not answer")
    return "direct", address(own)


def start_queue(own, handler, pool):
    """A broker on an empty journal, one worker and a gateway. The name of what works, and where to ask for totals."""
    own.fresh(1, "--pool", pool, "--queue", f"{QUEUE}={handler}")
    own.start("gateway", "millrace-producer", "gateway", "--http", address(own), "--broker", own.frontend)
    own.await_process("gateway", lambda: rig.answers(address(own)), "the gateway does not answer")
    return "worker-1", own.http


def unfinished(status):
    """Jobs that a broker still has; a direct server has none that it knows of."""
    jobs = status.get("jobs", {})
    return sum(jobs.get(state, 0) for state in ("scheduled", "ready", "leased", "retry_wait"))


def drain(http):
    """The status when nothing moves any more, and when the last job was done."""
    done, changed = -1, time.monotonic()
    while True:
        status = rig.status(http, STATUS_SECONDS)
        now = time.monotonic()
        if status["totals"]["done"] != done:
            done, changed = status["totals"]["done"], now
        elif unfinished(status) == 0 or now - changed > STILL_SECONDS:
            return status, changed
        time.sleep(0.1)
