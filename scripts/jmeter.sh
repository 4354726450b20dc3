#!/usr/bin/env bash
# Apache JMeter's burst against a server without a queue and against the gateway, and the count.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=jmeter.sh
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

readonly kThreads=100 kPace=50 # requests a second of each thread
readonly kJMeter=/usr/share/jmeter
# JMeter's own word for its flag -n listens on a port; two at a time could not run.
readonly kProperties=(
  -Jjmeterengine.nongui.port=0 -Jjmeter.save.saveservice.output_format=csv
  -Jjmeter.save.saveservice.print_field_names=true -Jjmeter.save.saveservice.label=false
  -Jjmeter.save.saveservice.thread_name=false -Jjmeter.save.saveservice.data_type=false
  -Jjmeter.save.saveservice.bytes=false -Jjmeter.save.saveservice.thread_counts=false
)
systems=(direct gateway)

usage() {
  cat <<'TEXT'
Usage: scripts/jmeter.sh [--quick] [--loops N] [--systems LIST] [--pool POOL] [--handler HANDLER]
                         [--json] [--svg FILE] [--port-base P] [--dir DIR]

Installs Debian's JMeter, builds Millrace, and runs scripts/jmeter/burst.jmx: 100 threads × 3,000
POSTs, each thread 50 a second: 300,000 at 5,000 a second, with a time-out of 1 s. One after the other to
  direct   a server of one thread that does the 2 ms of work itself, without a queue; JMeter's threads
           wait for its answers, so it stops after the time of the load, with what was sent until then
  gateway  the gateway, with a broker and a worker behind, all on this machine
and counts responses by code, time-outs, jobs confirmed, done and lost.

  --quick            150 loops: 15,000 requests
  --loops N          so many requests of each thread
  --systems LIST     only direct or only gateway
  --pool POOL        of the worker (fixed:16)
  --handler HANDLER  the work (sleep:2ms)
  --json             one JSON object on stdout instead of the table
  --svg FILE         a chart from JMeter's log of samples besides
  --port-base P      ports P, P+1, P+10 and P+12 of 127.0.0.1 (5770)
  --dir DIR          where the broker's journal stands meanwhile (build)

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0 the gateway answered every request with 202, and every job is done; 1 not so; 64 usage; 69
something is missing or does not start; 73 a port is in use.
TEXT
}

choose_systems() {
  local name
  IFS=, read -ra systems <<<"$1"
  for name in "${systems[@]}"; do
    [[ $name == direct || $name == gateway ]] ||
      fail 64 "--systems takes direct and gateway with a comma between, and not '$name'"
  done
  ((${#systems[@]})) || fail 64 "--systems needs a name: direct or gateway"
}

# run_jmeter NAME SECONDS: the plan, for at most that long; the samples are in $run_dir/NAME.jtl.
run_jmeter() {
  local status=0 classes
  classes=$(printf '%s:' "$kJMeter"/lib/ext/*.jar "$kJMeter"/lib/*.jar)
  # What XStream looks into, of Java's own.
  java -Xmx512m --add-opens java.base/java.util=ALL-UNNAMED --add-opens java.base/java.lang=ALL-UNNAMED \
    -Djava.awt.headless=true -Djmeter.home="$kJMeter" \
    -cp "$kJMeter/bin/ApacheJMeter.jar:$classes/usr/share/java/bsh.jar" \
    bsh.Interpreter "$root/scripts/jmeter/start.bsh" -n -t "$root/scripts/jmeter/burst.jmx" \
    -l "$run_dir/$1.jtl" -j "$run_dir/jmeter.log" "${kProperties[@]}" -Jthreads="$kThreads" \
    -Jloops="$loops" -Jpace=$((kPace * 60)).0 -Jseconds="$2" -Jport="$(front_port)" \
    -Jtarget="$(front_target)" </dev/null >"$run_dir/jmeter.out" 2>&1 &
  producer_pid=$!
  wait "$producer_pid" || status=$?
  producer_pid=
  if ((status != 0)) || [[ ! -s $run_dir/$1.jtl ]]; then
    tail -n 20 "$run_dir/jmeter.out" >&2
    fail 69 "JMeter ended with $status; its last words stand above, all of them in $run_dir/jmeter.log"
  fi
}

# count NAME STATUS: one record; STATUS is where to ask for what was done.
count() {
  "$kPython" "$root/scripts/lib/jmeter_count.py" --system "$1" --samples "$run_dir/$1.jtl" --status "$2" \
    --planned $((kThreads * loops)) >>"$run_dir/records" ||
    fail 1 "the samples of $1 could not be counted; the reason stands above"
}

measure_all() {
  local name load=$(((loops + kPace - 1) / kPace + 1)) # the threads begin within the first second
  for name in "${systems[@]}"; do
    note "$name: $((kThreads * loops)) requests by JMeter, $((kThreads * kPace)) a second"
    if [[ $name == direct ]]; then
      start_direct
      run_jmeter direct "$load"
      count direct "$(front_address)"
    else
      start_queue "$worker_pool"
      run_jmeter gateway $((load * 10))
      count gateway "127.0.0.1:$(http_port)"
    fi
    stop_front
  done
}

main() {
  local loops=3000 port_base=5770 handler=sleep:2ms worker_pool=fixed:16 directory="$root/build"
  local report=() svg='' arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) loops=150 ;;
      --json) report+=(--json) ;;
      --loops | --systems | --pool | --handler | --svg | --port-base | --dir)
        need_value "$1" $#
        case $1 in
          --loops) need_number "$1" "$2" 1 100000 && loops=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
          --systems) choose_systems "$2" ;;
          --pool) worker_pool=$2 ;;
          --handler) handler=$2 ;;
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
  [[ -z $svg ]] || report+=(--svg "$svg")

  # For the functions of lib/cluster.sh.
  # shellcheck disable=SC2034
  local broker_flags=(--fsync always) pool='' queues=()
  check_ports
  check_front_port
  "$root/scripts/setup.sh" --jmeter
  find_programs release
  begin_run jmeter "$directory"
  measure_all
  "$kPython" "$root/scripts/lib/jmeter_report.py" --dir "$run_dir" --rate $((kThreads * kPace)) \
    --handler "$handler" --pool "$worker_pool" \
    --command "scripts/$script${arguments[*]:+ ${arguments[*]}}" "${report[@]}"
}

main "$@"
