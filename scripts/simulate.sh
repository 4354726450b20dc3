#!/usr/bin/env bash
# Long runs of the simulator, on one core or several; or one seed again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root script=simulate.sh
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
source "$root/scripts/lib/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/simulate.sh --minutes N [--jobs N] [--json]
       scripts/simulate.sh --seed SEED [--shrink] [FLAG…]

Builds the simulator (docs/SIMULATION.md) and runs fresh seeds: producers, workers and a broker,
all real code, over a simulated network, disk and clocks, with faults. A failing seed ends its job
and is printed with the command that shows it again.

  --minutes N   so long, from 1 to 10000; each job for itself
  --jobs N      so many processes beside each other (1), from 1 to 256
  --json        one JSON object with the sums on stdout instead of the tables
  --seed SEED   this seed only; the flags after it go to the simulator (simulate --help has them)
  --help        this text

With MILLRACE_BIN=DIR in the environment DIR/simulate runs, and nothing is built.

Exit: 0; 1 an invariant was violated; 64 usage; 69 something is missing; 130 interrupted.
TEXT
}

find_simulator() {
  simulator=${MILLRACE_BIN:-$root/build/release/bin}/simulate
  if [[ -z ${MILLRACE_BIN:-} ]]; then
    "$root/scripts/build.sh" release --simulator
  elif [[ ! -x $simulator ]]; then
    fail 69 "MILLRACE_BIN names $MILLRACE_BIN, and there is no simulate"
  fi
}

stop_jobs() {
  if ((${#pids[@]})); then kill "${pids[@]}" 2>/dev/null || true; fi
  rm -rf "$out"
}

# The seeds of one job don't reach those of the next.
start_job() {
  local number=$1 progress=()
  if ((number == 0)); then progress=(--progress); fi
  "$simulator" --seconds $((minutes * 60)) --seed $((first_seed + number * 1000000000)) --json \
    "${progress[@]}" >"$out/$number" &
  pids+=($!)
}

run_jobs() {
  local number status=0
  out=$(mktemp -d)
  pids=()
  trap stop_jobs EXIT
  trap 'exit 130' INT TERM
  first_seed=$(date +%s%N)
  first_seed=$((first_seed / 1000))
  note "$jobs x $minutes min from seed $first_seed"
  for ((number = 0; number < jobs; ++number)); do start_job "$number"; done
  for number in "${!pids[@]}"; do
    wait "${pids[number]}" || status=1
  done
  pids=()
  "$kPython" "$root/scripts/lib/simulate_report.py" "${json[@]}" "$out"/* || status=1
  return "$status"
}

main() {
  local minutes='' jobs=1 json=() seed=()
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --json) json=(--json) ;;
      --minutes | --jobs)
        need_value "$1" $#
        if [[ $1 == --minutes ]]; then
          need_number "$1" "$2" 1 10000 && minutes=$((10#$2))
        else
          need_number "$1" "$2" 1 256 && jobs=$((10#$2))
        fi
        shift
        ;;
      --seed)
        need_value "$1" $#
        [[ $2 =~ ^[0-9]{1,19}$ ]] || fail 64 "--seed takes a whole number, not '$2'; see scripts/$script --help"
        seed=("$@")
        shift $(($# - 1))
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/$script --help" ;;
    esac
    shift
  done
  if ((${#seed[@]})) && [[ -n $minutes ]]; then
    fail 64 "--minutes draws its seeds, so give only one of --minutes and --seed"
  fi
  if ((${#seed[@]} == 0)) && [[ -z $minutes ]]; then
    fail 64 "say how long: --minutes N, or which run: --seed SEED; see scripts/$script --help"
  fi

  find_simulator
  if ((${#seed[@]})); then exec "$simulator" "${seed[@]}"; fi
  run_jobs
}

main "$@"
