#!/usr/bin/env bash
# What hostile and broken peers cost: each attack against a broker of its own, beside an honest load.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=attack.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/attack.sh [FLAGS] [ATTACK…]

Starts a broker and an echo worker on 127.0.0.1 for each attack (all of them by default), sends an
honest load, and prints for each the load's confirm p99: in calm, while the same attackers attack a
second broker (the control: what sharing the machine with them costs), and while they attack this one;
then how long it took to recover, and the broker's largest RSS. The p99 is the median of the seconds of
all rounds. An attack passes if the broker lives and answers /healthz, the p99 is at most twice the
larger of calm and control (or --least), it recovers within 5 s, and the RSS stays below --rss.

  --list          names the attacks
  --rounds N      calm, control, attack and recovery, interleaved, each time with new brokers (3)
  --seconds N     length of an attack, and of its control (5)
  --calm N        seconds of calm (4)
  --rate N        honest submissions a second (1000)
  --least MS      a p99 up to this always passes (5): a calm p99 of 1 ms is mostly luck
  --rss MIB       bound of the broker's RSS (1024)
  --open-files N  the broker's limit of open files (1024)
  --flag FLAG     a flag for 'millrace-broker serve', as --flag=--max-queued=100000; may be repeated
  --port-base P   six ports from P for each attack (26370)
  --json          one JSON object on stdout

With MILLRACE_BIN=DIR in the environment the programs there run, and nothing is built.

Exit: 0 all passed; 1 an attack did not pass; 64 usage; 69 something is missing.
TEXT
}

for argument in "$@"; do
  if [[ $argument == --help ]]; then usage && exit 0; fi
done
programs=${MILLRACE_BIN:-$root/build/release/bin}
if [[ $* == --list ]]; then exec "$kPython" "$root/scripts/lib/attacks/measure.py" --list; fi
[[ -n ${MILLRACE_BIN:-} ]] || "$root/scripts/build.sh" release --programs >&2
"$kPython" -c 'import zmq, msgpack' 2>/dev/null ||
  fail 69 "needs Debian's python3-zmq and python3-msgpack; scripts/setup.sh installs them"
status=0
PYTHONDONTWRITEBYTECODE=1 "$kPython" "$root/scripts/lib/attacks/measure.py" --programs "$programs" "$@" || status=$?
((status != 2)) || status=64
exit "$status"
