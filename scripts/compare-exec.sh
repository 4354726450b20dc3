#!/usr/bin/env bash
# The same command run by exec: handlers and by xargs -P: what a durable job costs beside a bare process.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=compare-exec.sh
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
Usage: scripts/compare-exec.sh [--jobs N] [--parallel N] [--rounds N] [--json] [--port-base P] [--dir DIR]

Builds Millrace and runs `cat >/dev/null` for each line of a file, in turns: by xargs -P, which gives the
line as input to nobody, and as jobs of an exec: handler, which are confirmed behind an fdatasync, leased,
run with the line on stdin, and completed. Prints the commands a second of both and their ratio (the
median of the rounds).

  --jobs N        commands in a round (3000)
  --parallel N    at a time (4)
  --rounds N      of both (3)
  --json          one JSON object on stdout instead of a line
  --port-base P   ports P, P+1 and P+10 of 127.0.0.1 (5870)
  --dir DIR       where the broker's journal stands meanwhile (build)

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 1 jobs were lost or failed; 64 usage; 69 something is missing or does not start; 73 a port
is in use.
TEXT
}

readonly kCommand='cat >/dev/null'

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# timed NAME COMMAND…: appends NAME=MS to the figures.
timed() {
  local name=$1 begin
  shift
  begin=$(now_ms)
  "$@"
  echo "$name=$(($(now_ms) - begin))" >>"$run_dir/figures"
}

by_xargs() { xargs -a "$run_dir/lines" -P "$pool_size" -I '{}' sh -c "$kCommand" </dev/null; }

by_jobs() {
  "$bin/millrace-producer" submit --broker "127.0.0.1:$port_base" --queue exec --lines "$run_dir/lines" \
    --wait --quiet >/dev/null || fail 1 "a job did not end well"
}

main() {
  local jobs=3000 pool_size=4 rounds=3 port_base=5870 directory="$root/build" report=() arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --json) report=(--json) ;;
      --jobs | --parallel | --rounds | --port-base | --dir)
        need_value "$1" $#
        case $1 in
          --jobs) need_number "$1" "$2" 1 1000000 && jobs=$2 ;;
          --parallel) need_number "$1" "$2" 1 1000 && pool_size=$2 ;;
          --rounds) need_number "$1" "$2" 1 100 && rounds=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
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
  # For the functions of lib/cluster.sh.
  # shellcheck disable=SC2034
  local broker_flags=(--fsync always) pool="fixed:$pool_size" queues=("exec=exec:$kCommand")
  check_ports
  find_programs release
  begin_run compare-exec "$directory"
  seq "$jobs" >"$run_dir/lines"
  start_broker
  start_worker worker-1
  wait_workers 1
  local round
  for ((round = 1; round <= rounds; ++round)); do
    note "round $round of $rounds"
    timed xargs by_xargs
    timed exec by_jobs
  done
  stop_cluster
  "$kPython" "$root/scripts/lib/exec_report.py" --dir "$run_dir" --jobs "$jobs" --parallel "$pool_size" \
    --command "scripts/$script${arguments[*]:+ ${arguments[*]}}" "${report[@]}"
}

main "$@"
