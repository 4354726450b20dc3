"""Prints what cluster.sh status found: lines `NAME PID`, an empty line, the broker's status or nothing."""
import argparse
import json
import sys


def read(stream):
    processes = []
    for line in stream:
        if not line.strip():
            break
        name, pid = line.split()
        processes.append({"name": name, "pid": int(pid)})
    rest = stream.read().strip()
    return processes, json.loads(rest) if rest else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("--port-base", type=int, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    processes, status = read(sys.stdin)
    broker = next((process for process in processes if process["name"] == "broker"), None)
    workers = [process for process in processes if process is not broker]
    report = {"running": broker is not None, "dir": arguments.dir, "port_base": arguments.port_base,
              "broker": broker, "workers": workers, "status": status}
    if arguments.json:
        print(json.dumps(report))
        return
    if not broker:
        print(f"the broker does not run; {len(workers)} workers do ({arguments.dir})")
        return
    print(f"broker     pid {broker['pid']}, ports {arguments.port_base}, {arguments.port_base + 1}, "
          f"HTTP {arguments.port_base + 10}, {status['state'] if status else 'not answering'}")
    known = {worker["name"]: worker for worker in status["workers"]} if status else {}
    for worker in workers:
        seen = known.get(worker["name"])
        did = f"{seen['done']} done, {seen['in_flight']} in hand" if seen else "not registered"
        print(f"{worker['name']:<10} pid {worker['pid']}, {did}")
    if status:
        counts = ", ".join(f"{count} {state}" for state, count in status["jobs"].items() if count)
        print(f"jobs       {counts or 'none'}")


if __name__ == "__main__":
    main()
