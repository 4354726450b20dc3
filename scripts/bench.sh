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
# shellcheck source-path=SCRIPTDIR source=lib/backlog.sh
source "$root/scripts/lib/backlog.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/bench.sh [--quick] [--parts LIST] [--backlog N] [--json] [--port-base P] [--dir DIR]

Builds Millrace and measures, with --fsync always, in up to three parts:
  loop
  - one append of 4 KiB and its fdatasync, bare, for comparison
  - jobs a second through the whole loop: 1,000,000 of 256 bytes, two echo workers
  - how long a confirm takes at 5,000 jobs a second for 20 s
  - the broker's memory, empty and with 1,000,000 jobs queued
  - what an idle broker and an idle worker use of a core in 10 s
  journal
  - a commit of one job against bare loops of write and fdatasync, and of O_DSYNC
  - bytes written for a payload's byte, at 1, 100 and 10,000 jobs a commit
  - recovery against plainly reading the same files, from the disk and from the page cache
  backlog (not unless it is named: 4 minutes, 5 GB of disk)
  - RAM a queued job with a tenth, half and all of N jobs of 256 bytes queued, --memory 64MiB
  - from the start to /readyz after kill -9, with cold and warm cache, and after a clean stop
  - how fast one worker drains it, against a backlog of 100,000

  --quick         a fifth of the jobs, a quarter of the time; for a look, not for a README
  --parts LIST    which of them, with commas (loop,journal)
  --backlog N     jobs of the backlog (10,000,000; with --quick 2,000,000)
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

measure_loop() {
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

measure_journal() {
  note "the journal by itself"
  "$bin/journal_bench" "$run_dir" "$journal_mib" --json >"$run_dir/journal.json" ||
    fail 1 "journal_bench ended with $?"
}

# Each part is one of three, and named once.
read_parts() {
  local part
  IFS=, read -ra parts <<<"$1"
  ((${#parts[@]} > 0)) || fail 64 "--parts names none; see scripts/bench.sh --help"
  for part in "${parts[@]}"; do
    [[ $part =~ ^(loop|journal|backlog)$ ]] ||
      fail 64 "--parts takes loop, journal and backlog, and '$part' is none; see scripts/bench.sh --help"
  done
}

find_journal_bench() {
  [[ " ${parts[*]} " != *" journal "* || -x $bin/journal_bench ]] || fail 69 "MILLRACE_BIN names $bin, and there is no journal_bench"
}

main() {
  local jobs=1000000 seconds=20 idle_seconds=10 journal_mib=1024 backlog='' parts=(loop journal) part
  local port_base=5670 directory="$root/build" json=() arguments=("$@") deep=10000000
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) jobs=200000 seconds=5 idle_seconds=3 journal_mib=128 deep=2000000 ;;
      --json) json=(--json) ;;
      --port-base | --dir | --parts | --backlog)
        need_value "$1" $#
        case $1 in
          --dir)
            [[ -d $2 ]] || fail 64 "--dir names a directory, and '$2' is none"
            directory=$(realpath -- "$2")
            ;;
          --parts) read_parts "$2" ;;
          --backlog) need_number "$1" "$2" 10 100000000 && backlog=$2 ;;
          *) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
        esac
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/bench.sh --help" ;;
    esac
    shift
  done
  backlog=${backlog:-$deep}

  broker_flags=(--fsync always)
  pool=fixed:1 queues=(bench=echo)
  check_ports
  find_programs release --bench
  find_journal_bench
  begin_run bench "$directory"
  for part in "${parts[@]}"; do "measure_$part"; done
  "$kPython" "$root/scripts/lib/bench_report.py" --dir "$run_dir" --jobs "$jobs" "${json[@]}" \
    --command "scripts/bench.sh${arguments[*]:+ ${arguments[*]}}"
}

main "$@"
