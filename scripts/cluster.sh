#!/usr/bin/env bash
# A cluster in the background: on this machine, one broker and any number of workers; with -f HOSTS on
# the hosts of that file, over ssh, which is the work of lib/hosts.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=cluster.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/processes.sh
source "$root/scripts/lib/processes.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
source "$root/scripts/lib/cluster.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/cluster.sh up [FLAGS] | scale N | status [--json] | down   [--dir DIR]
       scripts/cluster.sh -f HOSTS up|scale N|status|logs|drain|rolling-restart|down [FLAGS]

The second form runs a cluster on the hosts of a file, over ssh: scripts/cluster.sh -f HOSTS --help,
and docs/OPERATIONS.md, part 10. The first: one broker and some workers on this machine. Data, logs
and pids are in one directory.

  up        starts what does not run yet: twice is as good as once, and what died is started again
  scale N   starts workers, or drains the newest, until N run
  status    who runs, and what the broker says
  down      drains the workers, then stops the broker; the data stays

  --dir DIR              where everything is (build/cluster)
of up, remembered in the directory:
  --workers N            how many workers (3)
  --queue NAME=HANDLER   what they do (default=echo); may be given several times
  --pool POOL            each worker's pool (fixed:4)
  --port-base P          ports P, P+1 and, for HTTP, P+10 of 127.0.0.1 (5570)
  --preset PRESET        which build runs (release); it is built first

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0; 64 usage; 69 the cluster does not run, or does not come up; 73 a port is in use.
TEXT
}

# The settings of a cluster, one NAME=VALUE a line, in $run_dir/settings.
load_settings() {
  local name value
  [[ -r $run_dir/settings ]] || return 1
  queues=()
  while IFS='=' read -r name value; do
    case $name in
      port_base) port_base=$value ;;
      workers) workers=$value ;;
      pool) pool=$value ;;
      preset) preset=$value ;;
      queue) queues+=("$value") ;;
    esac
  done <"$run_dir/settings"
}

save_settings() {
  {
    printf '%s=%s\n' port_base "$port_base" workers "$workers" pool "$pool" preset "$preset"
    printf 'queue=%s\n' "${queues[@]}"
  } >"$run_dir/settings"
}

# One command at a time in a directory.
lock() {
  mkdir -p "$run_dir"
  exec 9>"$run_dir/.lock"
  flock -w 120 9 || fail 75 "another cluster.sh has been busy in $run_dir for two minutes"
}

up() {
  lock
  local port_base=5570 workers=3 pool=fixed:4 preset=release queues=(default=echo)
  load_settings || true
  if is_running broker && [[ -n $new_port_base && $new_port_base != "$port_base" ]]; then
    fail 64 "a broker runs here on port $port_base already; take it down before it can move to" \
      "$new_port_base: scripts/cluster.sh down --dir $run_dir"
  fi
  port_base=${new_port_base:-$port_base} workers=${new_workers:-$workers} pool=${new_pool:-$pool}
  preset=${new_preset:-$preset}
  ((${#new_queues[@]} == 0)) || queues=("${new_queues[@]}")
  find_programs "$preset"

  start_broker
  save_settings
  set_workers "$workers"
  note "broker on 127.0.0.1: frontend $port_base, backend $((port_base + 1)), HTTP $(http_port);" \
    "$(running_workers | wc -l) workers; everything is in $run_dir"
}

# Starts the lowest names that are free, or drains the newest, until so many run.
set_workers() {
  local wanted=$1 i=0 names
  mapfile -t names < <(running_workers)
  while ((${#names[@]} < wanted)); do
    i=$((i + 1))
    is_running "worker-$i" || start_worker "worker-$i"
    mapfile -t names < <(running_workers)
    ((i < 10000)) || fail 69 "workers end as soon as they start; see $run_dir/worker-*.log"
  done
  local -a extra=("${names[@]:wanted}")
  for name in "${extra[@]}"; do send_signal TERM "$name"; done
  for name in "${extra[@]}"; do wait_stopped "$name"; done
  wait_workers "$wanted"
}

scale() {
  lock
  local port_base workers pool preset queues
  if ! load_settings || ! is_running broker; then
    fail 69 "no cluster runs in $run_dir; start one: scripts/cluster.sh up --dir $run_dir"
  fi
  find_programs "$preset"
  workers=$1
  set_workers "$workers"
  save_settings
  note "$workers workers"
}

status() {
  local port_base workers pool preset queues pid name flags=("$@")
  load_settings || fail 69 "there is no cluster in $run_dir; start one: scripts/cluster.sh up"
  {
    for name in broker $(running_workers); do
      if find_process "$name"; then echo "$name $pid"; fi
    done
    echo
    http_get /v1/status || true
  } | "$kPython" "$root/scripts/lib/cluster_status.py" --dir "$run_dir" --port-base "$port_base" "${flags[@]}"
  is_running broker || exit 69
}

down() {
  lock
  local port_base workers pool preset queues
  load_settings || return 0
  stop_cluster
  note "stopped; data and logs stay in $run_dir"
}

main() {
  local command='' number='' json=() run_dir="$root/build/cluster" bin='' broker_flags=()
  local new_port_base='' new_workers='' new_pool='' new_preset='' new_queues=()
  for word in "$@"; do
    if [[ $word == -f* || $word == --hosts || $word == --hosts=* ]]; then
      PYTHONDONTWRITEBYTECODE=1 exec "$kPython" "$root/scripts/lib/hosts" "$@"
    fi
  done
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --json) json=(--json) ;;
      --dir | --workers | --queue | --pool | --port-base | --preset)
        need_value "$1" $#
        case $1 in
          --dir) run_dir=$(realpath -m -- "$2") ;;
          --workers) need_number "$1" "$2" 0 1000 && new_workers=$2 ;;
          --queue) [[ $2 == *=* ]] || fail 64 "'$2' is not NAME=HANDLER" && new_queues+=("$2") ;;
          --pool) new_pool=$2 ;;
          --port-base) need_number "$1" "$2" 1 65000 && new_port_base=$2 ;;
          --preset) new_preset=$2 ;;
        esac
        shift
        ;;
      -*) fail 64 "unknown flag '$1'; see scripts/cluster.sh --help" ;;
      up | scale | status | down)
        [[ -z $command ]] || fail 64 "one command at a time, and '$1' would be a second one"
        command=$1
        ;;
      *)
        [[ $command == scale && -z $number ]] || fail 64 "unknown argument '$1'; see scripts/cluster.sh --help"
        need_number scale "$1" 0 1000 && number=$1
        ;;
    esac
    shift
  done
  case $command in
    up | down) "$command" ;;
    scale) [[ -n $number ]] || fail 64 "scale needs the number of workers" && scale "$number" ;;
    status) status "${json[@]}" ;;
    *) fail 64 "say what to do: up, scale N, status or down; see scripts/cluster.sh --help" ;;
  esac
}

main "$@"
