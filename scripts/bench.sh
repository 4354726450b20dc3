#!/usr/bin/env bash
# The figures of this machine, each from the real programs with every confirm behind an fdatasync.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=bench.sh
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
Usage: scripts/bench.sh [--quick] [--json] [--port-base P] [--dir DIR]

Builds Millrace and measures, with --fsync always:
  - one append of 4 KiB and its fdatasync, bare, for comparison
  - jobs a second through the whole loop: 1,000,000 of 256 bytes, two echo workers
  - how long a confirm takes at 5,000 jobs a second for 20 s
  - the broker's memory, empty and with 1,000,000 jobs queued
  - what an idle broker and an idle worker use of a core in 10 s

  --quick         a fifth of the jobs, a quarter of the time; for a look, not for a README
  --json          one JSON object on stdout instead of the table
  --port-base P   ports P, P+1 and P+10 of 127.0.0.1 (5670)
  --dir DIR       a directory on the disk to measure (build)

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 1 jobs were lost or failed; 64 usage; 69 something is missing or does not start; 73 a port
is in use.
TEXT
}

# load NAME FLAGS…: its report goes to NAME.json.
load() {
  local name=$1 status=0
  shift
  "$bin/millrace-producer" load --broker "127.0.0.1:$port_base" --queue bench --size 256 --json "$@" \
    >"$run_dir/$name.json" &
  producer_pid=$!
  wait "$producer_pid" || status=$?
  producer_pid=
  ((status == 0)) || fail 1 "millrace-producer load ended with $status; its report: $(<"$run_dir/$name.json")"
}

figure() { echo "$1=$2" >>"$run_dir/figures"; }

resident_kib() {
  local pid
  find_process "$1" && sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status"
}

# Clock ticks of a core that a process has used.
used_ticks() {
  local pid stat fields
  find_process "$1"
  stat=$(<"/proc/$pid/stat")
  read -ra fields <<<"${stat##*) }"
  echo $((fields[11] + fields[12]))
}

# A broker on an empty journal, and so many workers.
fresh_cluster() {
  local i
  stop_cluster
  rm -rf "$run_dir/data"
  start_broker
  for ((i = 1; i <= $1; i++)); do start_worker "worker-$i"; done
  wait_workers "$1"
}

measure_memory_and_idle() {
  local name before
  note "memory and idle use"
  fresh_cluster 0
  figure rss_fresh_kib "$(resident_kib broker)"
  load queued --rate max --count "$jobs" --no-wait
  figure rss_queued_kib "$(resident_kib broker)"
  fresh_cluster 1
  for name in broker worker-1; do
    before=$(used_ticks "$name")
    sleep "$idle_seconds"
    figure "idle_ticks_${name%-1}" $(($(used_ticks "$name") - before))
  done
  figure idle_seconds "$idle_seconds"
}

measure() {
  note "bare fdatasync"
  figure fdatasync_us "$("$kPython" "$root/scripts/lib/fdatasync.py" "$run_dir")"
  note "the whole loop, $jobs jobs at full speed"
  fresh_cluster 2
  load loop --rate max --count "$jobs" --verify
  note "5,000 jobs a second for $seconds s"
  fresh_cluster 2
  load paced --rate 5000 --duration "${seconds}s" --verify
  measure_memory_and_idle
  stop_cluster
}

main() {
  local jobs=1000000 seconds=20 idle_seconds=10 port_base=5670 directory="$root/build" json=() arguments=("$@")
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) jobs=200000 seconds=5 idle_seconds=3 ;;
      --json) json=(--json) ;;
      --port-base | --dir)
        need_value "$1" $#
        if [[ $1 == --dir ]]; then
          [[ -d $2 ]] || fail 64 "--dir names a directory, and '$2' is none"
          directory=$(realpath -- "$2")
        else
          need_number "$1" "$2" 1 65000 && port_base=$2
        fi
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/bench.sh --help" ;;
    esac
    shift
  done

  broker_flags=(--fsync always)
  pool=fixed:1 queues=(bench=echo)
  check_ports
  find_programs release
  begin_run bench "$directory"
  measure
  "$kPython" "$root/scripts/lib/bench_report.py" --dir "$run_dir" --jobs "$jobs" "${json[@]}" \
    --command "scripts/bench.sh${arguments[*]:+ ${arguments[*]}}"
}

main "$@"
