#!/usr/bin/env bash
# The same burst of HTTP requests without a queue and with one: what is answered, lost and done.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=overload-demo.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/processes.sh
source "$root/scripts/lib/processes.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
source "$root/scripts/lib/cluster.sh"
# shellcheck source-path=SCRIPTDIR source=lib/run.sh
source "$root/scripts/lib/run.sh"
# shellcheck source-path=SCRIPTDIR source=lib/front.sh
source "$root/scripts/lib/front.sh"

readonly kSystems=(direct single per-job fixed auto)
systems=("${kSystems[@]}")

usage() {
  cat <<'TEXT'
Usage: scripts/overload-demo.sh [--quick] [--seconds N] [--rate N] [--handler HANDLER]
                                [--systems LIST] [--json] [--svg FILE] [--port-base P] [--dir DIR]

Builds Millrace and sends 5,000 HTTP requests a second for 60 s, each with 2 ms of work and a time-out
of 1 s, one after the other to
  direct   a server of one thread that does the work itself, without a queue
  single   a gateway and a broker, with a worker of one thread behind
  per-job  the same, with a worker that makes a thread for each job
  fixed    the same, with a pool of 16 threads
  auto     the same, with a pool that finds its size
and waits until all that was accepted is done. Requests are sent when they are due, whatever became of
those before. Prints what was offered, answered, timed out, lost and done, the time to an answer, how
long the rest took once the load was over, and the most threads. One thread takes ten minutes for its
300,000 jobs, so all of it takes a quarter of an hour.

  --quick            5 s instead of 60: two minutes in all
  --seconds N        so many seconds of load
  --rate N           so many requests a second (5000)
  --handler HANDLER  the work (sleep:2ms); burn:2ms computes instead of waiting
  --systems LIST     only these, with commas between
  --json             one JSON object on stdout instead of the table
  --svg FILE         a picture besides (needs gnuplot)
  --port-base P      ports P, P+1, P+10 and P+12 of 127.0.0.1 (5770)
  --dir DIR          where the broker's journal stands meanwhile (build)

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0 nothing was lost behind the queue; 1 something was; 64 usage; 69 something is missing or does
not start; 73 a port is in use.
TEXT
}

# choose_systems LIST
choose_systems() {
  local name
  IFS=, read -ra systems <<<"$1"
  for name in "${systems[@]}"; do
    [[ " ${kSystems[*]} " == *" $name "* ]] ||
      fail 64 "--systems takes ${kSystems[*]} with commas between, and not '$name'"
  done
  ((${#systems[@]})) || fail 64 "--systems needs a name: ${kSystems[*]}"
}

# measure SYSTEM PROCESS STATUS: one record; PROCESS does the work, STATUS is where to ask for totals.
measure() {
  local status=0 pid
  find_process "$2" || fail 69 "the $2 is gone; its last words are in $run_dir/$2.log"
  "$kPython" "$root/scripts/lib/overload_measure.py" --bin "$bin" --system "$1" --pid "$pid" \
    --front "$(front_address)" --target "$(front_target)" --status "$3" --rate "$rate" \
    --seconds "$seconds" >>"$run_dir/records" &
  producer_pid=$!
  wait "$producer_pid" || status=$?
  producer_pid=
  ((status == 0)) || fail 1 "the load on $1 failed; its last words stand above"
}

measure_all() {
  local name pool
  for name in "${systems[@]}"; do
    note "$name: $((rate * seconds)) requests in $seconds s"
    if [[ $name == direct ]]; then
      start_direct
      measure direct direct "$(front_address)"
    else
      pool=$name
      [[ $name != fixed ]] || pool=fixed:16
      start_queue "$pool"
      measure "$name" worker-1 "127.0.0.1:$(http_port)"
    fi
    stop_front
  done
}

main() {
  local seconds=60 rate=5000 port_base=5770 handler=sleep:2ms directory="$root/build" report=() svg=''
  local arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) seconds=5 ;;
      --json) report+=(--json) ;;
      --seconds | --rate | --handler | --systems | --svg | --port-base | --dir)
        need_value "$1" $#
        case $1 in
          --seconds) need_number "$1" "$2" 1 600 && seconds=$2 ;;
          --rate) need_number "$1" "$2" 1 100000 && rate=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
          --handler) handler=$2 ;;
          --systems) choose_systems "$2" ;;
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
  check_front_port
  find_programs release --loader
  begin_run overload "$directory"
  measure_all
  "$kPython" "$root/scripts/lib/overload_report.py" --dir "$run_dir" --seconds "$seconds" --rate "$rate" \
    --handler "$handler" --command "scripts/$script${arguments[*]:+ ${arguments[*]}}" "${report[@]}"
}

main "$@"
