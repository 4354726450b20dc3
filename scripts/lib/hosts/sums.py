"""Several brokers seen as one cluster, with the keys of `millrace-broker status --http A,B`."""
import collections


def add(sum_, counts):
    for key, number in counts.items():
        sum_[key] = sum_.get(key, 0) + number


def workers_of(statuses):
    """By name: a worker that several brokers know is one worker."""
    workers = {}
    for worker in (worker for status in statuses for worker in status["workers"]):
        name = worker["name"] or f"id {worker['id'][:8]}"  # one that a restarted broker still waits for
        known = workers.setdefault(name, collections.Counter(brokers=0))
        known["brokers"] += worker["connected"]
        known["threads"] = max(known["threads"], worker.get("threads", 0))
        for key in ("in_flight", "done", "failed"):
            known[key] += worker.get(key, 0)
    return [{"name": name, **counts} for name, counts in sorted(workers.items())]


def state_of(answers):
    states = {status and status["state"] for status in answers}
    if states <= {None}:
        return "unreachable"
    return states.pop() if len(states) == 1 else "degraded"


def of(answers):
    """Of the status of each broker, None for one that does not answer."""
    statuses = [status for status in answers if status]
    jobs, totals = {}, {}
    for status in statuses:
        add(jobs, status["jobs"])
        add(totals, status.get("totals", {}))
    return {"state": state_of(answers), "answering": len(statuses), "asked": len(answers), "jobs": jobs,
            "totals": totals, "workers": workers_of(statuses),
            "producers": sum(status.get("producers", 0) for status in statuses)}
