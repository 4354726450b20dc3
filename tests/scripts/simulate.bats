#!/usr/bin/env bats
# scripts/simulate.sh: what it starts, what it sums up, and what it refuses.

load helpers

setup() {
  make_tree
  stand_in scripts/build.sh
  mkdir -p "$BATS_TEST_TMPDIR/programs"
  export MILLRACE_BIN="$BATS_TEST_TMPDIR/programs"
  simulate="$tree/scripts/simulate.sh"
  report='{"first_seed": 5, "runs": 2, "seconds": 60.0, "simulated_seconds": 90, "speed": 1,
    "events": 3, "submitted": 4, "confirmed": 3, "rejected": 1, "unknown": 0, "executed": 3,
    "failed_runs": 0, "coverage": {"faults": {"pause": 7}}}'
  simulator 0 "$report"
}

# simulator EXIT TEXT: what stands in for the simulator ends so, after saying that.
simulator() {
  printf '%s' "$2" >"$BATS_TEST_TMPDIR/says"
  printf '#!/usr/bin/env bash\necho "simulate $*" >>"$calls"\ncat "%s"\nexit %d\n' \
    "$BATS_TEST_TMPDIR/says" "$1" >"$MILLRACE_BIN/simulate"
  chmod +x "$MILLRACE_BIN/simulate"
}

@test "it runs for so many minutes, and says the sums" {
  run "$simulate" --minutes 2
  [ "$status" -eq 0 ]
  called "simulate --seconds 120 --seed "
  says "2 runs from seed 5"
  says "pause"
}

@test "several jobs draw from different seeds, and are summed up" {
  run "$simulate" --minutes 1 --jobs 3 --json
  [ "$status" -eq 0 ]
  [ "$(cut -d' ' -f5 "$calls" | sort -u | wc -l)" -eq 3 ]
  says '"runs": 6'
  says '"pause": 21'
}

@test "a failing job is shown, and the exit is 1" {
  simulator 1 "violated: nothing is lost"
  run "$simulate" --minutes 1
  [ "$status" -eq 1 ]
  says "violated: nothing is lost"
}

@test "one seed goes to the simulator with its flags" {
  run "$simulate" --seed 42 --shrink --without pause
  [ "$status" -eq 0 ]
  called "simulate --seed 42 --shrink --without pause"
}

@test "without MILLRACE_BIN the simulator is built" {
  mkdir -p "$tree/build/release/bin"
  mv "$MILLRACE_BIN/simulate" "$tree/build/release/bin/simulate"
  unset MILLRACE_BIN
  run "$simulate" --seed 1
  [ "$status" -eq 0 ]
  called "build.sh release --simulator"
  called "simulate --seed 1"
}

refuses() {
  local part=$1
  shift
  run "$simulate" "$@"
  [ "$status" -eq 64 ]
  says "$part"
}

@test "what can't be meant is refused" {
  refuses "say how long"
  refuses "unknown argument '--hours'" --hours 1
  refuses "--minutes needs a value" --minutes
  refuses "not 'soon'" --minutes soon
  refuses "from 1 to 10000" --minutes 0
  refuses "from 1 to 256" --minutes 1 --jobs 0
  refuses "not 'x'" --seed x
  refuses "only one of" --minutes 1 --seed 4
  not_called "simulate --"
}

@test "a directory without the simulator is said" {
  rm "$MILLRACE_BIN/simulate"
  run "$simulate" --seed 1
  [ "$status" -eq 69 ]
  says "there is no simulate"
}
