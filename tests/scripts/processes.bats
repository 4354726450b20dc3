#!/usr/bin/env bats
# scripts/lib/processes.sh: a pid file is only believed when it means the process that was started.

setup() {
  lib="$BATS_TEST_DIRNAME/../../scripts/lib"
  script=test
  # shellcheck source=/dev/null
  source "$lib/common.sh"
  # shellcheck source=/dev/null
  source "$lib/processes.sh"
  run_dir=$BATS_TEST_TMPDIR
}

teardown() {
  if is_running one; then kill_process one; fi
  if [[ -n ${stranger:-} ]]; then
    disown "$stranger"
    kill -s KILL "$stranger"
  fi
}

@test "what was started runs, and is stopped by SIGTERM" {
  spawn one sleep 60 3>&-
  is_running one
  stop_process one 10
  is_gone one
  [ ! -e "$run_dir/one.pid" ]
}

@test "what ignores SIGTERM gets SIGKILL" {
  spawn one bash -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' 3>&-
  until_true 10 grep -q ready "$run_dir/one.log"
  run stop_process one 1
  [[ $output == *SIGKILL* ]]
  is_gone one
}

@test "a pid that belongs to another process is left alone" {
  sleep 60 3>&- &
  stranger=$!
  read -r started < <(start_time "$stranger")
  echo "$stranger $((started + 1))" >"$run_dir/one.pid"
  is_gone one
  stop_process one 1
  kill_process one
  kill -s 0 "$stranger"
}

@test "a damaged or empty pid file means nothing runs" {
  for content in "" "x y" "1" "99999999 5"; do
    echo "$content" >"$run_dir/one.pid"
    is_gone one
    stop_process one 1
  done
}

@test "field finds a number by its name" {
  [ "$(field accepted '{"done": 3, "accepted": 42, "x": 1}')" -eq 42 ]
  [ "$(field accepted '{"accepted":7}')" -eq 7 ]
  [ "$(field accepted '')" -eq 0 ]
}
