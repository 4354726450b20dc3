#!/usr/bin/env bats
# examples/exec-handler/charge.sh: one effect, however often and in whatever order its job is run.

setup() {
  charge=$BATS_TEST_DIRNAME/../../examples/exec-handler/charge.sh
  export CHARGES=$BATS_TEST_TMPDIR/charges
}

# attempt JOB EPOCH PAYLOAD
attempt() { printf '%s' "$3" | MILLRACE_JOB_ID=$1 MILLRACE_EPOCH=$2 "$charge"; }
balance() { awk -v who="$1" '$4 == who { sum += $2 } END { print sum + 0 }' "$CHARGES"/receipts/*; }

@test "a job charges its account and answers with a receipt" {
  run attempt 3f9a1c07-1 10 'alice 250'
  [ "$status" -eq 0 ]
  [ "$output" = "charged 250 to alice for job 3f9a1c07-1" ]
  attempt 3f9a1c07-2 11 'alice 50'
  [ "$(balance alice)" -eq 300 ]
}

@test "a job that comes again charges nothing and answers the same" {
  attempt 3f9a1c07-1 10 'alice 250'
  run attempt 3f9a1c07-1 12 'alice 250'
  [ "$status" -eq 0 ]
  [ "$output" = "charged 250 to alice for job 3f9a1c07-1" ]
  [ "$(balance alice)" -eq 250 ]
}

@test "an older attempt that wakes up late is kept out" {
  mkdir -p "$CHARGES/fences"
  echo 12 >"$CHARGES/fences/3f9a1c07-1"
  run attempt 3f9a1c07-1 10 'alice 250'
  [ "$status" -eq 75 ]
  [ ! -e "$CHARGES/receipts/3f9a1c07-1" ]
}

@test "a payload that will never be right is a permanent failure" {
  for payload in '' 'alice' 'alice ten' '../etc 5' 'alice 5 6'; do
    run attempt 3f9a1c07-1 10 "$payload"
    [ "$status" -eq 65 ]
  done
}
