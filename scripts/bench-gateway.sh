#!/usr/bin/env bash
# Durable POSTs through the gateway, beside the same HTTP code without a broker behind it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=bench-gateway.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/processes.sh
source "$root/scripts/lib/processes.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
source "$root/scripts/lib/cluster.sh"
# shellcheck source-path=SCRIPTDIR source=lib/run.sh
source "$root/scripts/lib/run.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/bench-gateway.sh [--seconds N] [--rounds N] [--json] [--port-base P] [--dir DIR]

Builds Millrace and lets wrk (one thread) post 256 bytes over 64 and over 2,000 kept connections:
  - to an HTTP server that answers 202 at once: the gateway's own, without a broker behind it
  - to the gateway, which answers 202 when the broker has synced the job (--fsync always)
The two take turns, and the middle one of the rounds counts. No worker runs: the jobs stay queued, so
each round begins with an empty journal.

  --seconds N     of each measurement (5)
  --rounds N      of each pair (3)
  --json          one JSON object on stdout instead of the table
  --port-base P   ports P, P+1, P+10, P+20 and P+21 of 127.0.0.1 (5670)
  --dir DIR       a directory on the disk to measure (build)

Exit: 0; 1 a request was not answered with 202; 64 usage; 69 something is missing or does not start;
73 a port is in use.
TEXT
}

readonly kConnections=(64 2000)

gateway_port() { echo $((port_base + 20)); }
baseline_port() { echo $((port_base + 21)); }

# A kept connection is a file, here and in the servers.
raise_file_limit() {
  ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
  (($(ulimit -n) >= 4096)) || fail 69 "2,000 connections need more open files than 'ulimit -n' allows"
}

answers() { curl -s -o /dev/null --max-time 5 "$1"; }

start_servers() {
  rm -rf "$run_dir/data"
  start_broker
  spawn gateway "$bin/millrace-producer" gateway --broker "127.0.0.1:$port_base" \
    --http "127.0.0.1:$(gateway_port)" --max-connections 2500
  spawn baseline "$bin/http_baseline" "$(baseline_port)" 2500
  until_true 20 curl -fs -o /dev/null "http://127.0.0.1:$(gateway_port)/readyz" ||
    fail 69 "the gateway is not ready; its log is $run_dir/gateway.log"
  until_true 20 answers "http://127.0.0.1:$(baseline_port)/" ||
    fail 69 "the baseline does not answer; its log is $run_dir/baseline.log"
}

# measure NAME PORT CONNECTIONS ROUND
measure() {
  note "$1, $3 connections, round $4"
  wrk -t1 -c"$3" -d"${seconds}s" --timeout 10s --latency -s "$root/scripts/lib/wrk_post.lua" \
    "http://127.0.0.1:$2/v1/queues/bench/jobs" >"$run_dir/$1-$3-$4.wrk" 2>&1 ||
    fail 69 "wrk failed: $(<"$run_dir/$1-$3-$4.wrk")"
}

measure_all() {
  local connections round
  for connections in "${kConnections[@]}"; do
    for ((round = 1; round <= rounds; round++)); do
      start_servers
      measure baseline "$(baseline_port)" "$connections" "$round"
      measure gateway "$(gateway_port)" "$connections" "$round"
      http_get /v1/status >"$run_dir/status-$connections-$round.json"
      stop_servers
    done
  done
}

stop_servers() {
  stop_process gateway 30
  stop_process baseline 5
  stop_cluster
}

main() {
  local seconds=5 rounds=3 port_base=5670 directory="$root/build" json=() arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --json) json=(--json) ;;
      --seconds | --rounds | --port-base | --dir)
        need_value "$1" $#
        case $1 in
          --seconds) need_number "$1" "$2" 1 600 && seconds=$2 ;;
          --rounds) need_number "$1" "$2" 1 99 && rounds=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
          --dir)
            [[ -d $2 ]] || fail 64 "--dir names a directory, and '$2' is none"
            directory=$(realpath -- "$2")
            ;;
        esac
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/bench-gateway.sh --help" ;;
    esac
    shift
  done

  broker_flags=(--fsync always)
  check_ports
  raise_file_limit
  "$root/scripts/setup.sh" --bench
  bench_programs
  begin_run bench-gateway "$directory"
  measure_all
  "$kPython" "$root/scripts/lib/gateway_report.py" --dir "$run_dir" --rounds "$rounds" \
    --seconds "$seconds" "${json[@]}" \
    --command "scripts/bench-gateway.sh${arguments[*]:+ ${arguments[*]}}"
}

# The programs, and the baseline, which is built with the tests.
bench_programs() {
  find_programs release
  [[ -n ${MILLRACE_BIN:-} ]] || cmake --build "$root/build/release" --target http_baseline >&2
  [[ -x $bin/http_baseline ]] || fail 69 "there is no http_baseline in $bin"
}

main "$@"
