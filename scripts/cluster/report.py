"""What a command of cluster.sh prints for people."""
import shlex

import plan


def count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def show(result, command):
    if command == "logs":
        for line in result["lines"]:
            print(f"{line['host']} {line['unit']}: {line['line']}")
        return
    if command == "status":
        show_status(result)
    bad = [host["host"] for host in result["hosts"] if host["error"]]
    running = [unit["name"] for host in result["hosts"] for unit in host["units"] if unit["state"] not in plan.GONE]
    workers = sum(name.startswith("worker") for name in running)
    words = [count(len(result["hosts"]), "host"), count(running.count("broker"), "broker"), count(workers, "worker")]
    if "gateway" in running:
        words.append(count(running.count("gateway"), "gateway"))
    if bad:
        words.append(f"failed: {', '.join(bad)}")
    print(f"{command}: {', '.join(words)}; {result['seconds']:.1f} s")
    if command == "up" and not bad:
        print(f"producers connect to {result['frontend']}; keys and settings are in {result['dir']}")


def show_steps(steps):
    """Of --dry-run."""
    for step in steps:
        print(f"{step['host']}: {shlex.join(step['command'])}")
        for call in step["calls"]:
            print(f"    {shlex.join(map(str, call))}")


def jobs_of(status):
    return ", ".join(f"{number:,} {state}" for state, number in status["jobs"].items() if number) or "none"


def show_status(result):
    for host in result["hosts"]:
        if host["error"]:
            print(f"{host['host']:<20} {host['error']}")
        for unit in host["units"]:
            pid = "up starts it" if unit["state"] in plan.GONE else f"pid {unit['pid'] or 'unknown'}"
            print(f"{host['host']:<20} {unit['name']:<12} {unit['state']:<8} {pid}")
    brokers, cluster = result.get("brokers") or {}, result.get("cluster")
    for text, status in brokers.items():
        connected = sum(worker["connected"] for worker in status["workers"])
        print(f"{text:<20} broker is {status['state']}, {count(connected, 'worker')}, jobs: {jobs_of(status)}")
    if cluster:
        connected = sum(worker["brokers"] > 0 for worker in cluster["workers"])
        print(f"{'all':<20} {cluster['answering']} of {cluster['asked']} brokers answer: {cluster['state']}, "
              f"{count(connected, 'worker')}, jobs: {jobs_of(cluster)}")
