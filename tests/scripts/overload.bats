#!/usr/bin/env bats
# scripts/overload-demo.sh and scripts/jmeter.sh: what they refuse, before anything is built or started.

load helpers

setup() {
  make_tree
  stand_in scripts/build.sh
  stand_in scripts/setup.sh
  overload="$tree/scripts/overload-demo.sh"
  jmeter="$tree/scripts/jmeter.sh"
  mkdir -p "$BATS_TEST_TMPDIR/programs" # without programs
}

@test "--help needs nothing, and names every flag" {
  for program in "$overload" "$jmeter"; do
    run "$program" --help
    [ "$status" -eq 0 ]
    says "Usage: scripts/$(basename "$program")"
    for flag in --quick --systems --handler --json --svg --port-base --dir; do says "$flag"; done
  done
  [ ! -s "$calls" ]
}

@test "an unknown argument, or a value that is missing, is a usage error" {
  for program in "$overload" "$jmeter"; do
    run "$program" --frobnicate
    [ "$status" -eq 64 ]
    says "--frobnicate"
    run "$program" --systems
    [ "$status" -eq 64 ]
    says "--systems needs a value"
    run "$program" --dir /nonexistent
    [ "$status" -eq 64 ]
    says "/nonexistent"
    run "$program" --port-base 0
    [ "$status" -eq 64 ]
  done
  [ ! -s "$calls" ]
}

@test "numbers have limits" {
  run "$overload" --seconds 0
  [ "$status" -eq 64 ]
  says "from 1 to 600"
  run "$overload" --rate many
  [ "$status" -eq 64 ]
  says "'many'"
  run "$jmeter" --loops 0
  [ "$status" -eq 64 ]
}

@test "an unknown system is refused with those that there are" {
  run "$overload" --systems direct,singel
  [ "$status" -eq 64 ]
  says "'singel'"
  says "direct, single, per-job, fixed, auto"
  run "$jmeter" --systems fixed
  [ "$status" -eq 64 ]
  says "direct, gateway"
  run "$jmeter" --systems ''
  [ "$status" -eq 64 ]
}

@test "a picture without gnuplot is refused" {
  mkdir "$BATS_TEST_TMPDIR/few"
  for name in bash dirname env cat; do ln -s "$(command -v "$name")" "$BATS_TEST_TMPDIR/few/$name"; done
  PATH="$BATS_TEST_TMPDIR/few" run "$overload" --svg picture.svg
  [ "$status" -eq 69 ]
  says "gnuplot-nox"
}

@test "a port in use is named" {
  command -v python3 >/dev/null
  coproc listener { exec /usr/bin/python3 -c "
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); input()"; }
  # shellcheck disable=SC2154
  read -r port <&"${listener[0]}"
  for program in "$overload" "$jmeter"; do
    run "$program" --port-base $((port - 12))
    [ "$status" -eq 73 ]
    says "port $port"
  done
  eval "exec ${listener[1]}>&-"
  [ ! -s "$calls" ]
}

@test "programs that are not there are named" {
  MILLRACE_BIN="$BATS_TEST_TMPDIR/programs" run "$overload" --port-base 31770
  [ "$status" -eq 69 ]
  says "there is no millrace-broker"
  printf '#!/bin/sh\n' >"$BATS_TEST_TMPDIR/programs/millrace-broker"
  chmod +x "$BATS_TEST_TMPDIR/programs/millrace-broker"
  MILLRACE_BIN="$BATS_TEST_TMPDIR/programs" run "$overload" --port-base 31770
  [ "$status" -eq 69 ]
  says "there is no millrace-http-load"
}

@test "JMeter is installed first" {
  stand_in scripts/setup.sh 'exit 69'
  run "$jmeter" --port-base 31770
  [ "$status" -eq 69 ]
  called "setup.sh --jmeter"
  not_called "build.sh"
}
