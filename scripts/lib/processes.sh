# shellcheck shell=bash disable=SC2154
# Programs in the background, each with NAME.pid and NAME.log in $run_dir. A pid file says when the
# process started too: a pid that was given to another program in the meantime is never signalled.

# The start time of a process, in clock ticks since boot; nothing if there is no such process.
start_time() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The name stands in parentheses and may hold blanks; the start time is field 22, state is field 3.
  local -a fields tasks
  read -ra fields <<<"${stat##*) }"
  # A killed process has its ports until the last of its threads has ended.
  tasks=("/proc/$1/task"/*)
  [[ ${fields[0]} != Z ]] || ((${#tasks[@]} > 1)) || return 1
  echo "${fields[19]}"
}

# Sets `pid`; fails when the process is not there, or not the one that was started.
find_process() {
  local started now
  pid=
  [[ -r $run_dir/$1.pid ]] || return 1
  read -r pid started <"$run_dir/$1.pid" || return 1
  [[ $pid =~ ^[0-9]+$ && $started =~ ^[0-9]+$ ]] || return 1
  now=$(start_time "$pid") && [[ $now == "$started" ]]
}

is_running() {
  local pid
  find_process "$1"
}

# spawn NAME COMMAND…: in a session of its own, so that a Ctrl-C here does not reach it.
spawn() {
  local name=$1 pid
  shift
  setsid "$@" </dev/null >>"$run_dir/$name.log" 2>&1 9>&- &
  pid=$!
  disown "$pid" 2>/dev/null || true
  echo "$pid $(start_time "$pid" || echo 0)" >"$run_dir/$name.pid"
}

send_signal() {
  local pid
  if find_process "$2"; then kill -s "$1" "$pid" 2>/dev/null || true; fi
}

is_gone() { ! is_running "$1"; }

# stop_process NAME SECONDS: SIGTERM, and SIGKILL when it is still there after that time.
stop_process() {
  local name=$1 seconds=$2
  send_signal TERM "$name"
  if ! until_true "$seconds" is_gone "$name"; then
    note "$name did not stop within $seconds s after SIGTERM; it gets SIGKILL"
    send_signal KILL "$name"
    until_true 10 is_gone "$name" || note "$name is still there after SIGKILL"
  fi
  rm -f "$run_dir/$name.pid"
}

kill_process() {
  send_signal KILL "$1"
  until_true 10 is_gone "$1" || fail 70 "$1 is still there after SIGKILL"
  rm -f "$run_dir/$1.pid"
}
