#!/usr/bin/env bash
# The main job, before your eyes: a load for a durable broker and three workers, while a worker and
# the broker are killed; then real files, each digest compared. Nothing may be lost.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=demo.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/processes.sh
source "$root/scripts/lib/processes.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
source "$root/scripts/lib/cluster.sh"
# shellcheck source-path=SCRIPTDIR source=lib/run.sh
source "$root/scripts/lib/run.sh"

readonly kRate=5000
readonly kQuickFiles=500
# Twice what 5,000 jobs of 2 ms a second keep busy, so that two of three workers still suffice.
readonly kPool=fixed:10
# Reads one path; a file's name may begin or end with anything but hold no line feed.
# shellcheck disable=SC2016
readonly kDigest='IFS= read -r path || :; exec sha256sum <"$path"'

usage() {
  cat <<'TEXT'
Usage: scripts/demo.sh [--quick] [--files DIR] [--port-base P] [--json]

Builds Millrace, starts a broker and three workers on this machine, and sends 300,000 jobs of 2 ms
work at 5,000 a second. At one third a worker is killed with SIGKILL, at half the broker is, and
started again on its journal; at two thirds a fourth worker joins. Then each regular file below
/usr/include goes through a sha256 job, and each digest is compared with sha256sum's own.

  --quick         10 s instead of 60, and at most 500 files
  --files DIR     these files instead of /usr/include
  --port-base P   ports P, P+1 and P+10 of 127.0.0.1 (5770: not those of a broker that is in use)
  --json          one JSON object on stdout instead of the tables

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0 nothing was lost and the books balance; 1 they don't; 64 usage; 69 something is missing or
does not start; 73 a port is in use.
TEXT
}

event() {
  local seconds=$((SECONDS - load_began))
  note "$(printf '%3d s  %s' "$seconds" "$*")"
  printf '%s\t%s\n' "$seconds" "$*" >>"$run_dir/events"
}

# Waits until the broker has accepted so many jobs, as long as the producer runs.
wait_accepted() {
  has_accepted() {
    local status
    status=$(http_get /v1/status) || status=
    accepted=$(field accepted "$status")
    ((accepted >= $1)) || ! kill -s 0 "$producer_pid" 2>/dev/null
  }
  until_true $((2 * duration + 60)) has_accepted "$1" || fail 1 "the broker has accepted only $accepted" \
    "jobs of $1 in $((2 * duration + 60)) s"
}

run_load() {
  local total=$((kRate * duration)) accepted=0 load_began=$SECONDS status=0
  note "$total jobs of 2 ms work, $kRate a second for $duration s, three workers"
  "$bin/millrace-producer" load --broker "127.0.0.1:$port_base" --queue demo --rate "$kRate" \
    --duration "${duration}s" --size 256 --verify --ledger "$run_dir/ledger" --json \
    >"$run_dir/load.json" &
  producer_pid=$!

  wait_accepted $((total / 3))
  kill_process worker-1
  event "worker-1 killed with SIGKILL, $accepted jobs accepted"

  wait_accepted $((total / 2))
  kill_process broker
  event "broker killed with SIGKILL, $accepted jobs accepted"
  start_broker
  event "broker serves again on its journal"

  wait_accepted $((2 * total / 3))
  start_worker worker-4
  event "worker-4 joins, $accepted jobs accepted"

  wait "$producer_pid" || status=$?
  producer_pid=
  echo "$status" >"$run_dir/load.exit"
  until_true 60 is_settled_queue || true
  http_get /v1/status >"$run_dir/status.json" || fail 69 "the broker does not answer"
  status=0
  "$bin/millrace-producer" audit --broker "127.0.0.1:$port_base" --ledger "$run_dir/ledger" --json \
    >"$run_dir/audit.json" || status=$?
  echo "$status" >"$run_dir/audit.exit"
}

# Nothing waits or runs.
is_settled_queue() {
  local status
  status=$(http_get /v1/status) || return 1
  [[ $status =~ \"jobs\":[^}]*\"leased\":\ *0[,}] && $status =~ \"jobs\":[^}]*\"ready\":\ *0[,}] &&
    $status =~ \"jobs\":[^}]*\"retry_wait\":\ *0[,}] ]]
}

# The files' names, each ended by a NUL, in $run_dir/names. A line can't hold a name with a line feed.
list_files() {
  local all=cat
  ((quick)) && all="head -zn $kQuickFiles"
  find "$files" -type f -readable ! -name $'*\n*' ! -path $'*\n*' -print0 | sort -z | $all >"$run_dir/names" || true
  [[ -s $run_dir/names ]] || fail 69 "there is no readable file below $files; name another directory: --files DIR"
}

run_files() {
  local status=0
  list_files
  tr '\0' '\n' <"$run_dir/names" >"$run_dir/lines"
  note "$(wc -l <"$run_dir/lines") files below $files, a sha256 job for each"
  "$bin/millrace-producer" submit --broker "127.0.0.1:$port_base" --queue files --lines "$run_dir/lines" \
    --wait --results "$run_dir/results" >/dev/null &
  producer_pid=$!
  wait "$producer_pid" || status=$?
  producer_pid=
  note "comparing with sha256sum's own digests"
  xargs -0 sha256sum -z -- <"$run_dir/names" >"$run_dir/digests" || true
  echo "$status" >"$run_dir/files.exit"
}

main() {
  local quick=0 duration=60 files=/usr/include port_base=5770 json=()
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) quick=1 duration=10 ;;
      --json) json=(--json) ;;
      --files | --port-base)
        need_value "$1" $#
        if [[ $1 == --files ]]; then
          [[ -d $2 ]] || fail 64 "--files names a directory, and '$2' is none"
          files=$(realpath -- "$2")
        else
          need_number "$1" "$2" 1 65000 && port_base=$2
        fi
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/demo.sh --help" ;;
    esac
    shift
  done

  broker_flags=()
  pool=$kPool queues=(demo=sleep:2ms "files=exec:$kDigest")
  check_ports
  find_programs release
  check_ports
  begin_run demo "$root/build" # /tmp may be in RAM, where syncing shows nothing

  start_broker
  for name in worker-1 worker-2 worker-3; do start_worker "$name"; done
  wait_workers 3
  run_load
  run_files
  stop_cluster
  "$kPython" "$root/scripts/lib/demo_report.py" --dir "$run_dir" --expected $((kRate * duration)) \
    --files "$files" "${json[@]}"
}

main "$@"
