#!/bin/bash
# What keys cost: the durable job loop with and without CURVE, by turns in one run.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${MILLRACE_BIN:-$root/build/release/bin}
count=500000 rounds=3 port=25870 json=false

usage() {
  cat <<END
usage: scripts/bench-curve.sh [--count N] [--rounds N] [--port-base P] [--json]
Runs N jobs of 256 bytes (default $count) through a broker with --fsync always and two echo workers,
with keys and without, by turns; prints the jobs a second of each, and the ratio of the medians.
END
}

while [ $# -gt 0 ]; do
  case $1 in
    --count) count=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --port-base) port=$2; shift ;;
    --json) json=true ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done

dir=$(mktemp -d)
pids=()
stop() {
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  pids=()
}
trap 'stop; rm -rf "$dir"' EXIT

"$bin/millrace-broker" keygen "$dir/broker" > "$dir/log"
"$bin/millrace-broker" keygen "$dir/peer" > "$dir/log"
"$bin/millrace-broker" keys add --allow "$dir/allow" "$dir/peer.pub" > "$dir/log"

# Jobs a second of one round: run_round plain|curve
run_round() {
  local server=() client=() i
  if [ "$1" = curve ]; then
    server=(--curve-key "$dir/broker" --curve-allow "$dir/allow")
    client=(--curve-key "$dir/peer" --curve-broker "$dir/broker.pub")
  fi
  "$bin/millrace-broker" serve --data "$dir/data" --frontend "127.0.0.1:$port" --backend "127.0.0.1:$((port + 1))" \
    --http "127.0.0.1:$((port + 2))" "${server[@]}" 2>> "$dir/log" &
  pids+=($!)
  for i in 1 2; do
    "$bin/millrace-worker" run --broker "127.0.0.1:$((port + 1))" --queue bench=echo --name "bench-$i" "${client[@]}" \
      2>> "$dir/log" &
    pids+=($!)
  done
  "$bin/millrace-producer" load --broker "127.0.0.1:$port" --queue bench --rate max --count "$count" --json --quiet \
    "${client[@]}" > "$dir/report" 2>> "$dir/log"
  stop
  rm -rf "$dir/data"
  /usr/bin/python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["rate"]))' "$dir/report"
}

plain=() curve=()
for ((round = 0; round < rounds; round++)); do
  run_round plain > "$dir/rate"; plain+=("$(cat "$dir/rate")")
  run_round curve > "$dir/rate"; curve+=("$(cat "$dir/rate")")
done
/usr/bin/python3 - "$json" "$count" "${plain[*]}" "${curve[*]}" <<'END'
import json
import statistics
import sys

plain, curve = ([int(rate) for rate in rates.split()] for rates in sys.argv[3:5])
report = {"count": int(sys.argv[2]), "size": 256, "plain_jobs_per_s": plain, "curve_jobs_per_s": curve,
          "ratio": round(statistics.median(curve) / statistics.median(plain), 3)}
if sys.argv[1] == "true":
    print(json.dumps(report))
else:
    for name in ("plain", "curve"):
        print(f"{name}  {' '.join(f'{rate:>11,}' for rate in report[name + '_jobs_per_s'])} jobs/s")
    print(f"ratio {report['ratio']}")
END
