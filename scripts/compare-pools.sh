#!/usr/bin/env bash
# The same load on every pool, for three kinds of job: what each threading model is good for.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=compare-pools.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/processes.sh
source "$root/scripts/lib/processes.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
source "$root/scripts/lib/cluster.sh"
# shellcheck source-path=SCRIPTDIR source=lib/run.sh
source "$root/scripts/lib/run.sh"

readonly kRate=5000
pools=(single per-job fixed:1 fixed:4 fixed:16 fixed:64 fixed:256 auto)
# NAME=HANDLER
kinds=(sleep=sleep:2ms cpu=burn:1ms 'mixed=sleep:1ms,1%:100ms')

usage() {
  cat <<'TEXT'
Usage: scripts/compare-pools.sh [--quick] [--seconds N] [--kind NAME] [--pools LIST] [--json] [--svg FILE]
                                [--port-base P] [--dir DIR]

Builds Millrace and sends 5,000 jobs a second for 10 s to one worker, and waits for all of them, with
each of the pools single, per-job, fixed:1, 4, 16, 64, 256 and auto, for three kinds of job:
  sleep   2 ms of waiting, as for a database
  cpu     1 ms of computing
  mixed   1 ms of waiting, for one job in a hundred 100 ms
Before each of them the same load runs for half the time, so that every pool has found its size.
Prints jobs a second, latency, threads, context switches, memory, and how long the rest took once the
load was over. It takes about 20 minutes.

  --quick         2 s instead of 10; for a look, not for a page
  --seconds N     so many seconds of load
  --kind NAME     only sleep, cpu or mixed
  --pools LIST    only these, with commas between
  --json          one JSON object on stdout instead of the tables
  --svg FILE      a chart besides (needs gnuplot)
  --port-base P   ports P, P+1, P+10 and P+11 of 127.0.0.1 (5770)
  --dir DIR       where the broker's journal stands meanwhile (build)

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 1 jobs were lost or failed; 64 usage; 69 something is missing or does not start; 73 a port
is in use.
TEXT
}

status_address() { echo "127.0.0.1:$((port_base + 11))"; }

# fresh_cluster POOL HANDLER: a broker on an empty journal, and one worker.
fresh_cluster() {
  stop_cluster
  rm -rf "$run_dir/data"
  start_broker
  spawn worker-1 "$bin/millrace-worker" run --broker "127.0.0.1:$((port_base + 1))" --name worker-1 \
    --pool "$1" --queue "pools=$2" --http "$(status_address)"
  wait_workers 1
}

# measure KIND POOL: one record.
measure() {
  local status=0 pid
  find_process worker-1 || fail 69 "the worker is gone; its last words are in $run_dir/worker-1.log"
  "$kPython" "$root/scripts/lib/pools_measure.py" --bin "$bin" --broker "127.0.0.1:$port_base" \
    --worker-pid "$pid" --status "$(status_address)" --rate "$kRate" --seconds "$seconds" \
    --kind "$1" --pool "$2" >>"$run_dir/records" &
  producer_pid=$!
  wait "$producer_pid" || status=$?
  producer_pid=
  ((status == 0)) || fail 1 "the load on $2 with $1 jobs failed; its last words stand above"
}

# choose_kind NAME
choose_kind() {
  local kind
  for kind in "${kinds[@]}"; do
    [[ ${kind%%=*} == "$1" ]] && kinds=("$kind") && return
  done
  fail 64 "--kind is sleep, cpu or mixed, and not '$1'"
}

measure_all() {
  local kind pool
  for kind in "${kinds[@]}"; do
    for pool in "${pools[@]}"; do
      note "${kind%%=*} jobs on $pool"
      fresh_cluster "$pool" "${kind#*=}"
      measure "${kind%%=*}" "$pool"
    done
  done
  stop_cluster
}

main() {
  local seconds=10 port_base=5770 directory="$root/build" report=() svg='' arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) seconds=2 ;;
      --json) report+=(--json) ;;
      --seconds | --kind | --pools | --svg | --port-base | --dir)
        need_value "$1" $#
        case $1 in
          --seconds) need_number "$1" "$2" 1 600 && seconds=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
          --kind) choose_kind "$2" ;;
          --pools) IFS=, read -ra pools <<<"$2" ;;
          --svg) svg=$2 ;;
          --dir)
            [[ -d $2 ]] || fail 64 "--dir names a directory, and '$2' is none"
            directory=$(realpath -- "$2")
            ;;
        esac
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/$script --help" ;;
    esac
    shift
  done
  if [[ -n $svg ]]; then
    command -v gnuplot >/dev/null || fail 69 "--svg needs gnuplot: apt-get install gnuplot-nox"
    report+=(--svg "$svg")
  fi

  # For the functions of lib/cluster.sh.
  # shellcheck disable=SC2034
  local broker_flags=(--fsync always) pool='' queues=()
  check_ports
  find_programs release
  begin_run compare-pools "$directory"
  measure_all
  "$kPython" "$root/scripts/lib/pools_report.py" --dir "$run_dir" --seconds "$seconds" --rate "$kRate" \
    --command "scripts/$script${arguments[*]:+ ${arguments[*]}}" "${report[@]}"
}

main "$@"
