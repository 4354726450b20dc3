#!/usr/bin/env bash
# The core and the journal's records over very many jobs: is what they hold bounded by what is live?
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=soak.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/soak.sh [--jobs N] [--json]

Drives the broker's core and the codec of its records, on a journal in memory and without sockets, with
a hostile mixture of jobs: scattered ends, keys, results, queues, producers that come, go and never
raise their floors, and rebuilds the state from the journal every so often. Two million jobs before,
which bring everything that has a limit to it, are not counted. Samples go to stderr.

  --jobs N   so many jobs (5e6), from 2e6; 1e9 takes 20 minutes of CPU
  --json     one JSON object on stdout instead of a line of text
  --help     this text

With MILLRACE_BIN=DIR in the environment DIR/soak runs, and nothing is built.

Exit: 0 flat; 1 since one million jobs RSS or the work per job grew by more than 10 %, the state's heap
or the checkpoints by more than 6 %, or (from 5e8 jobs on) the CPU time per job by more than 50 %; or a
rebuilt state differs, or the live one holds more or fewer of anything, or takes 8 % more than it, or 25 %
more or less than it says; 64 usage; 69 something is missing.
TEXT
}

if [[ ${1:-} == --help ]]; then
  usage
  exit 0
fi
soak=${MILLRACE_BIN:-$root/build/release/bin}/soak
if [[ -z ${MILLRACE_BIN:-} ]]; then
  "$root/scripts/build.sh" release >&2
elif [[ ! -x $soak ]]; then
  fail 69 "MILLRACE_BIN names $MILLRACE_BIN, and there is no soak"
fi
exec "$soak" "$@"
