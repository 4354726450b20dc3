#!/usr/bin/env bash
# Workers killed and stopped before each system call of a job's start, not only before a sample of them.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=storm.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/storm.sh [--rounds N]

Runs workers with exec: and stream: handlers. Kills a worker or its spawn server before each of the first
system calls of their jobs, or stops the worker there (SIGSTOP) until its jobs have run elsewhere. Checks
that no handler runs on a part of its payload, that nothing survives its worker by more than a second, and
that a worker that was stopped starts none of the jobs that it has lost. Continuous integration runs every
fourth call or fewer; this runs all of them, in about 3 minutes.

  --rounds N   so many times (1), from 1 to 1000
  --help       this text

With MILLRACE_BIN=DIR in the environment the programs in DIR run, and nothing is built; the libraries are
in DIR/../lib.

Exit: 0; 1 a check failed; 64 usage; 69 something is missing.
TEXT
}

rounds=1
while (($#)); do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --rounds)
      need_value "$1" $#
      need_number "$1" "$2" 1 1000
      rounds=$((10#$2))
      shift
      ;;
    *) fail 64 "unknown argument '$1'; see scripts/$script --help" ;;
  esac
  shift
done

programs=${MILLRACE_BIN:-$root/build/release/bin}
if [[ -z ${MILLRACE_BIN:-} ]]; then
  "$root/scripts/build.sh" release >&2
elif [[ ! -x $programs/millrace-worker ]]; then
  fail 69 "MILLRACE_BIN names $programs, and there is no millrace-worker"
fi
[[ -e $programs/../lib/kill_before_call.so ]] || fail 69 "there is no $programs/../lib/kill_before_call.so: build the tests"
programs=$(cd "$programs" && pwd)
for ((round = 1; round <= rounds; ++round)); do
  note "round $round of $rounds"
  MILLRACE_BIN=$programs MILLRACE_STORM=full "$kPython" "$root/tests/integration/test_processes.py" StormTest || exit 1
done
