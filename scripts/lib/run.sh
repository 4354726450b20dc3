# shellcheck shell=bash
# One run of a script on a cluster of its own: its directory, its producer, and an end that leaves
# no process behind. Needs common.sh and cluster.sh.

# For end_run, which runs after main() has gone.
run_dir='' producer_pid=''

# begin_run NAME DIRECTORY: a new directory there, kept only when the script fails.
begin_run() {
  mkdir -p "$2"
  run_dir=$(mktemp -d "$2/$1.XXXXXX")
  trap end_run EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

end_run() {
  local status=$?
  trap - EXIT INT TERM
  if [[ -n $producer_pid ]]; then
    disown "$producer_pid" 2>/dev/null || true # no word from the shell about its end
    kill -s KILL "$producer_pid" 2>/dev/null || true
  fi
  kill_cluster
  if ((status == 0)); then
    rm -rf "$run_dir"
  else
    note "logs and data are kept in $run_dir"
  fi
  exit "$status"
}
