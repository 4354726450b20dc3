#!/usr/bin/env bats
# scripts/storm.sh: what it refuses.

load helpers

setup() {
  make_tree
  stand_in scripts/build.sh
  storm="$tree/scripts/storm.sh"
}

@test "what it does not know is refused before anything is built" {
  run "$storm" --round 2
  [ "$status" -eq 64 ]
  says "--round"
  run "$storm" --rounds 0
  [ "$status" -eq 64 ]
  not_called "build.sh"
}

@test "programs without the tests' library are refused" {
  mkdir -p "$BATS_TEST_TMPDIR/programs"
  export MILLRACE_BIN="$BATS_TEST_TMPDIR/programs"
  run "$storm"
  [ "$status" -eq 69 ]
  says "no millrace-worker"
  printf '#!/bin/sh\n' >"$MILLRACE_BIN/millrace-worker"
  chmod +x "$MILLRACE_BIN/millrace-worker"
  run "$storm"
  [ "$status" -eq 69 ]
  says "kill_before_call.so"
}
