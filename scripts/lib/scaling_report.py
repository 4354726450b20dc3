"""bench-scaling.sh's figures as a table for people, or as one JSON object. A line of its file is a round:
brokers, the producer's user and system seconds, used() before and after, and the load's report."""
import argparse
import json
import statistics

USED = ("broker", "core", "worker", "bytes")


def read(line, options):
    *words, report = line.split(None, 11)
    number, user, system = int(words[0]), float(words[1]), float(words[2])
    before, after = [int(word) for word in words[3:7]], [int(word) for word in words[7:11]]
    spent = {name: (b - a) / options.count for name, a, b in zip(USED, before, after)}
    costs = {f"{name}_us": 1e6 * spent[name] / options.ticks for name in ("broker", "core", "worker")}
    return number, {"rate": json.loads(report)["rate"], **costs, "producer_us": 1e6 * (user + system) / options.count,
                    "disk_bytes": spent["bytes"]}


def medians(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def summary(options):
    rounds = {}
    with open(options.file, encoding="utf-8") as file:
        for line in file:
            number, figures = read(line, options)
            rounds.setdefault(number, []).append(figures)
    first = medians(rounds[min(rounds)])["rate"]
    return [{"brokers": number, "rates": [round(one["rate"]) for one in of_it],
             "ratio": round(medians(of_it)["rate"] / first, 2),
             **{name: round(value, 2) for name, value in medians(of_it).items()}} for number, of_it in rounds.items()]


def show(rows):
    print("brokers  jobs/s of each round, median last                ratio  CPU us/job: brokers (core)  workers  producer"
          "  disk B/job")
    for row in rows:
        rates = " ".join(f"{rate:>11,}" for rate in [*row["rates"], round(row["rate"])])
        print(f"{row['brokers']:>7}  {rates:<47}  {row['ratio']:>5.2f}  {row['broker_us']:>20.2f} ({row['core_us']:.2f})"
              f"  {row['worker_us']:>7.2f}  {row['producer_us']:>8.2f}  {row['disk_bytes']:>10.0f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--ticks", type=int, required=True)
    parser.add_argument("--broker-cpu", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = summary(options)
    if options.json:
        print(json.dumps({"command": options.command, "count": options.count, "size": 256,
                          "broker_cpu_percent": options.broker_cpu or None, "rows": rows}))
    else:
        print(options.command)
        show(rows)


if __name__ == "__main__":
    main()
