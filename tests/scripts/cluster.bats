#!/usr/bin/env bats
# scripts/cluster.sh without -f, demo.sh and the benchmarks: what they refuse, before anything is built or
# started. What they do is tested with the real programs, tests/integration/test_scripts.py.

load helpers

setup() {
  make_tree
  stand_in scripts/build.sh
  unset MILLRACE_BIN
}

teardown() {
  if [[ -n ${listener:-} ]]; then kill "$listener"; fi
}

# Listens on a free port P so that P + 1 is free too; sets `port`.
take_port() {
  /usr/bin/python3 -c '
import socket, time
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
taken.listen()
print(taken.getsockname()[1], flush=True)
time.sleep(60)' >"$BATS_TEST_TMPDIR/port" 3>&- &
  listener=$!
  until [ -s "$BATS_TEST_TMPDIR/port" ]; do sleep 0.05; done
  port=$(<"$BATS_TEST_TMPDIR/port")
}

@test "--help needs nothing" {
  for script in demo bench bench-scaling; do
    run "$tree/scripts/$script.sh" --help
    [ "$status" -eq 0 ]
    says "Usage: scripts/$script.sh"
    says "--port-base P"
  done
  run "$tree/scripts/cluster.sh" --help
  [ "$status" -eq 0 ]
  says "usage: scripts/cluster.sh"
  [ ! -s "$calls" ]
}

@test "unknown flags and missing values are usage errors" {
  for script in "cluster.sh up" demo.sh bench.sh bench-scaling.sh; do
    # shellcheck disable=SC2086
    run "$tree/scripts/"$script --frobnicate
    [ "$status" -eq 64 ]
    says "--frobnicate"
    # shellcheck disable=SC2086
    run "$tree/scripts/"$script --port-base
    [ "$status" -eq 64 ]
    says "--port-base"
    # shellcheck disable=SC2086
    run "$tree/scripts/"$script --port-base 99999999
    [ "$status" -eq 64 ]
    says "99999999"
  done
  [ ! -s "$calls" ]
}

@test "cluster.sh wants one command, and scale a number" {
  for arguments in "" "up down" "scale" "scale many" "scale -1" "up 3" "frobnicate"; do
    # shellcheck disable=SC2086
    run "$tree/scripts/cluster.sh" $arguments
    [ "$status" -eq 64 ]
  done
  run "$tree/scripts/cluster.sh" up --queue nothing
  [ "$status" -eq 64 ]
  says "NAME=HANDLER"
  [ ! -s "$calls" ]
}

@test "what does not run can't be scaled or shown, but taken down" {
  for arguments in "scale 2" status "status --json"; do
    # shellcheck disable=SC2086
    run "$tree/scripts/cluster.sh" $arguments --dir "$BATS_TEST_TMPDIR/none"
    [ "$status" -eq 69 ]
    says "scripts/cluster.sh up"
  done
  run "$tree/scripts/cluster.sh" down --dir "$BATS_TEST_TMPDIR/none"
  [ "$status" -eq 0 ]
}

@test "a port in use is named, with one that is free" {
  take_port
  for script in demo.sh bench.sh compare-change.sh compare-exec.sh compare-pools.sh; do
    # shellcheck disable=SC2086
    run "$tree/scripts/"$script --port-base "$port"
    [ "$status" -eq 73 ]
    says "port $port of 127.0.0.1 is in use"
    [[ $output =~ --port-base\ ([0-9]+) ]]
    [ "${BASH_REMATCH[1]}" -ne "$port" ]
  done
}

@test "demo.sh wants a directory of files, the measuring ones one to write in" {
  run "$tree/scripts/demo.sh" --files "$BATS_TEST_TMPDIR/nowhere"
  [ "$status" -eq 64 ]
  says "nowhere"
  for script in bench.sh bench-scaling.sh compare-change.sh compare-exec.sh compare-pools.sh; do
    run "$tree/scripts/$script" --dir "$BATS_TEST_TMPDIR/nowhere"
    [ "$status" -eq 64 ]
    says "nowhere"
  done
}

@test "bench.sh knows its parts, and does not begin one that it has not the program for" {
  run "$tree/scripts/bench.sh" --parts loop,lopp
  [ "$status" -eq 64 ]
  says "'lopp'"
  run "$tree/scripts/bench.sh" --parts backlog --backlog many
  [ "$status" -eq 64 ]
  says "'many'"
  mkdir "$BATS_TEST_TMPDIR/half"
  touch "$BATS_TEST_TMPDIR/half/millrace-broker"
  chmod +x "$BATS_TEST_TMPDIR/half/millrace-broker"
  MILLRACE_BIN="$BATS_TEST_TMPDIR/half" run "$tree/scripts/bench.sh" --parts journal --port-base 21000
  [ "$status" -eq 69 ]
  says "no journal_bench"
}

@test "a build that fails starts nothing" {
  stand_in scripts/build.sh 'exit 2'
  run "$tree/scripts/demo.sh" --port-base 21000
  [ "$status" -eq 2 ]
  called "build.sh release --programs"
  [ -z "$(find "$tree" -name '*.pid')" ]
}

@test "MILLRACE_BIN is used, and must hold the programs" {
  MILLRACE_BIN="$BATS_TEST_TMPDIR/nowhere" run "$tree/scripts/demo.sh" --port-base 21000
  [ "$status" -eq 69 ]
  says "nowhere"
  not_called build.sh
}

@test "bench-scaling.sh has a directory and ports for each broker" {
  run "$tree/scripts/bench-scaling.sh" --dirs /tmp,/var
  [ "$status" -eq 64 ]
  says "2 directories for 3 brokers"
  run "$tree/scripts/bench-scaling.sh" --brokers 2 --dirs "/tmp,$BATS_TEST_TMPDIR/nowhere"
  [ "$status" -eq 64 ]
  says "nowhere"
  take_port
  run "$tree/scripts/bench-scaling.sh" --port-base $((port - 8)) # the last one of three brokers
  [ "$status" -eq 73 ]
  says "port $port of 127.0.0.1 is in use"
}
