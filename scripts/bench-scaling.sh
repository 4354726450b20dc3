#!/usr/bin/env bash
# How throughput adds up: the durable job loop through one broker, two, three, by turns in one run,
# and what each part of it costs in CPU time and bytes to the disk.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=bench-scaling.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"

readonly kWorkers=2
readonly kReadySeconds=30
readonly kPeriod=10000 # us: a broker that is held to a part of a core has its part in each

usage() {
  cat <<'TEXT'
Usage: scripts/bench-scaling.sh [FLAGS]

Sends jobs of 256 bytes as fast as they are taken through brokers with --fsync always and two echo
workers that draw from all of them; prints jobs a second, and for a job the CPU time of brokers (and
of their core threads), workers and producer, and the bytes that went to the disk.

  --brokers N            from one broker up to N (3)
  --count N              jobs of a round (1,000,000)
  --rounds N             how often each number has its turn (3)
  --broker-cpu PERCENT   hold each broker to this part of a core (10 to 100), as a slower machine would:
                         then also a machine of two cores shows how brokers add up. Needs root, cgroups
  --dirs A,B,C           a directory for each broker, on disks of their own (all in --dir)
  --dir DIR              where everything else is (build)
  --port-base P          three ports from P of 127.0.0.1 for each broker (25970)
  --json                 one JSON object on stdout instead of the table

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 1 jobs were lost or failed; 64 usage; 69 something is missing or does not start; 73 a port is
in use.
TEXT
}

# ---- The brokers and workers of a round

frontend() { echo "127.0.0.1:$((port_base + 3 * $1))"; }
backend() { echo "127.0.0.1:$((port_base + 3 * $1 + 1))"; }
http() { echo "127.0.0.1:$((port_base + 3 * $1 + 2))"; }

# list_of WHAT NUMBER: of so many brokers, with commas.
list_of() {
  local i list=''
  for ((i = 0; i < $2; i++)); do list+=",$("$1" "$i")"; done
  echo "${list:1}"
}

check_ports() {
  local port
  for ((port = port_base; port < port_base + 3 * $1; port++)); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      fail 73 "port $port of 127.0.0.1 is in use by another program; choose another --port-base"
    fi
  done
}

# Where a broker's journal is; each has a directory of its own, however often --dirs names one.
data_of() { echo "${dirs[$1]:-$run_dir}/millrace-bench-$$-$1"; }

# group_of BROKER: a control group of the CPU, version 2 or 1.
group_of() {
  local parent=/sys/fs/cgroup
  [[ -e $parent/cgroup.controllers ]] || parent+=/cpu
  echo "$parent/millrace-bench-$$-$1"
}

# hold BROKER PID: to $broker_cpu percent of a core.
hold() {
  local group quota=$((kPeriod * broker_cpu / 100))
  group=$(group_of "$1")
  mkdir "$group" 2>"$run_dir/group" || fail 69 "--broker-cpu: $(<"$run_dir/group"); it needs root and cgroups"
  groups+=("$group")
  if [[ -e $group/cpu.max ]]; then
    echo "$quota $kPeriod" >"$group/cpu.max"
  else
    echo "$kPeriod" >"$group/cpu.cfs_period_us"
    echo "$quota" >"$group/cpu.cfs_quota_us"
  fi
  echo "$2" >"$group/cgroup.procs"
}

start_broker() {
  "$bin/millrace-broker" serve --fsync always --data "$(data_of "$1")" --frontend "$(frontend "$1")" \
    --backend "$(backend "$1")" --http "$(http "$1")" 2>>"$run_dir/log" &
  brokers+=($!)
  ((broker_cpu == 0)) || hold "$1" $!
}

start_worker() {
  "$bin/millrace-worker" run --broker "$(list_of backend "$2")" --queue bench=echo --pool fixed:1 --name "bench-$1" \
    2>>"$run_dir/log" &
  workers+=($!)
}

has_workers() {
  local status
  status=$("$bin/millrace-broker" status --http "$(http "$1")" --json 2>"$run_dir/said") || return 1
  (($(grep -o '"connected":true' <<<"$status" | wc -l) == kWorkers))
}

start_all() {
  local i
  for ((i = 0; i < $1; i++)); do start_broker "$i"; done
  for ((i = 0; i < kWorkers; i++)); do start_worker "$i" "$1"; done
  for ((i = 0; i < $1; i++)); do
    until_true "$kReadySeconds" has_workers "$i" ||
      fail 69 "broker $((i + 1)) does not have its workers after $kReadySeconds s: $(tail -n 3 "$run_dir/log")"
  done
}

# Also after a failure: nothing that was started here stays.
stop_all() {
  local pid group i
  for pid in "${workers[@]}" "${brokers[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${workers[@]}" "${brokers[@]}"; do wait "$pid" 2>/dev/null || true; done
  for group in "${groups[@]}"; do rmdir "$group"; done
  for ((i = 0; i < ${#brokers[@]}; i++)); do rm -rf "$(data_of "$i")"; done
  brokers=() workers=() groups=()
}

# ---- A round

# ticks PATH…: clock ticks that the processes, or threads, of these directories below /proc have used.
ticks() {
  local path stat sum=0 fields
  for path in "$@"; do
    stat=$(<"/proc/$path/stat")
    read -ra fields <<<"${stat##*) }"
    sum=$((sum + fields[11] + fields[12]))
  done
  echo "$sum"
}

written() {
  local pid sum=0
  for pid in "${brokers[@]}"; do
    sum=$((sum + $(sed -n 's/^write_bytes: //p' "/proc/$pid/io")))
  done
  echo "$sum"
}

# What has been used so far: ticks of brokers, their core threads, workers; bytes written.
used() {
  local pid cores=()
  for pid in "${brokers[@]}"; do cores+=("$pid/task/$pid"); done
  echo "$(ticks "${brokers[@]}") $(ticks "${cores[@]}") $(ticks "${workers[@]}") $(written)"
}

# run_round BROKERS: one line of figures: brokers, rate, ticks of the producer, and used() before and after.
run_round() {
  local before after producer status=0
  start_all "$1"
  before=$(used)
  TIMEFORMAT='%U %S'
  { time "$bin/millrace-producer" load --broker "$(list_of frontend "$1")" --queue bench --rate max --count "$count" \
    --size 256 --json --quiet >"$run_dir/report" 2>>"$run_dir/log"; } 2>"$run_dir/time" || status=$?
  after=$(used)
  ((status == 0)) || fail 1 "millrace-producer load ended with $status: $(<"$run_dir/report") $(tail -n 3 "$run_dir/log")"
  producer=$(<"$run_dir/time")
  stop_all
  echo "$1 $producer $before $after $(tr -d '\n' <"$run_dir/report")" >>"$run_dir/rounds"
}

# read_dirs LIST: sets `named`, the paths of directories that are there.
read_dirs() {
  local path
  named=()
  IFS=, read -ra named <<<"$1"
  for path in "${named[@]}"; do
    [[ -d $path ]] || fail 64 "--dir and --dirs name directories, and '$path' is none"
  done
}

end_run() {
  local status=$?
  trap - EXIT
  stop_all
  if ((status == 0)); then rm -rf "$run_dir"; else note "the log is kept in $run_dir"; fi
  exit "$status"
}

main() {
  local named=() most=3 count=1000000 rounds=3 port_base=25970 directory="$root/build" json=() bin='' arguments=("$@") i round
  brokers=() workers=() groups=() dirs=() broker_cpu=0 run_dir=''
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --json) json=(--json) ;;
      --brokers | --count | --rounds | --broker-cpu | --port-base | --dir | --dirs)
        need_value "$1" $#
        case $1 in
          --brokers) need_number "$1" "$2" 1 16 && most=$2 ;;
          --count) need_number "$1" "$2" 1000 100000000 && count=$2 ;;
          --rounds) need_number "$1" "$2" 1 100 && rounds=$2 ;;
          --broker-cpu) need_number "$1" "$2" 10 100 && broker_cpu=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && port_base=$2 ;;
          --dir) read_dirs "$2" && directory=${named[0]} ;;
          --dirs) read_dirs "$2" && dirs=("${named[@]}") ;;
        esac
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/$script --help" ;;
    esac
    shift
  done
  ((${#dirs[@]} == 0 || ${#dirs[@]} >= most)) || fail 64 "--dirs names ${#dirs[@]} directories for $most brokers"
  check_ports "$most"
  find_programs release
  mkdir -p "$directory"
  run_dir=$(mktemp -d "$directory/bench-scaling.XXXXXX")
  trap end_run EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for ((round = 1; round <= rounds; round++)); do
    for ((i = 1; i <= most; i++)); do
      note "round $round of $rounds, $i of $most brokers"
      run_round "$i"
    done
  done
  "$kPython" "$root/scripts/lib/scaling_report.py" "$run_dir/rounds" --count "$count" --ticks "$(getconf CLK_TCK)" \
    --broker-cpu "$broker_cpu" --command "scripts/$script${arguments[*]:+ ${arguments[*]}}" "${json[@]}"
}

main "$@"
