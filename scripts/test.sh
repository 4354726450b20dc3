#!/usr/bin/env bash
# Runs everything that continuous integration checks, and ends in one line: 'N passed, N failed'.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly kPresets=(release asan-ubsan tsan dev fuzz)

passed=0
failed=0

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [--quick | --preset PRESET] [--label LABEL] [--tidy-seconds N | --no-tidy]

Checks the scripts with shellcheck and, where version 14 of these is installed, the code's format
with clang-format and what changed since main with clang-tidy, then builds and tests each preset:
  release      every test
  asan-ubsan   labels unit, golden, asan, fuzz
  tsan         labels threads, tsan: what runs several threads

  --quick           release only
  --preset PRESET   this preset only: release, asan-ubsan, tsan, dev or fuzz (clang's
                    libFuzzer, a minute for each target)
  --label LABEL     only tests with this label (a regular expression matching all of it), in
                    release unless --preset says otherwise
  --tidy-seconds N  clang-tidy also checks what did not change, for N seconds at most (0). It
                    remembers what was clean, and the next run goes on
  --no-tidy         without clang-tidy
  --help            this text

The last line sums up all runs; a build that fails counts as one failed test. Exit: 0 all passed;
1 something failed; 64 usage; 69 packages are missing.
TEXT
}

fail() {
  local code=$1
  shift
  echo "test.sh: $*" >&2
  exit "$code"
}

note() { echo "test.sh: [${SECONDS}s] $*" >&2; }

tally() {
  if (($1 == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

check_scripts() {
  note "shellcheck"
  local status=0
  (cd "$root" && shellcheck scripts/*.sh scripts/lib/*.sh .ci/run) || status=$?
  tally "$status"
}

# Other versions of clang-format break other lines.
check_format() {
  local -r version=14
  if ! clang-format --version 2>/dev/null | grep -q "version $version\."; then
    note "the format is not checked: clang-format $version is not here (scripts/setup.sh --lint)"
    return
  fi
  note "clang-format"
  local status=0
  (cd "$root" && git ls-files -z '*.h' '*.cpp' | xargs -0 -P 2 -n 40 clang-format --dry-run -Werror) || status=$?
  tally "$status"
}

# Of release, once it is built: what was compiled says which headers a source has.
check_tidy() {
  local -r version=14
  if ! clang-tidy --version 2>/dev/null | grep -q "version $version\."; then
    note "clang-tidy checks nothing: version $version is not here (scripts/setup.sh --lint)"
    return
  fi
  note "clang-tidy"
  local status=0
  python3 "$root/scripts/lib/tidy.py" --seconds "$1" || status=$?
  tally "$status"
}

# Nothing for all tests: ".*" would leave out those that have no label.
labels_of() {
  case $1 in
    asan-ubsan) echo 'unit|golden|asan|fuzz' ;;
    fuzz) echo 'fuzz' ;;
    tsan) echo 'threads|tsan' ;;
  esac
}

# Adds ctest's own summary, "98% tests passed, 1 tests failed out of 42", to the sums. Without one
# nothing ran, and that is a failure.
tally_ctest() {
  local status=$1 log=$2 line
  line=$(grep -E 'tests passed, [0-9]+ tests failed out of [0-9]+' "$log" | tail -n 1 || true)
  if [[ $line =~ ([0-9]+)\ tests\ failed\ out\ of\ ([0-9]+) ]]; then
    failed=$((failed + BASH_REMATCH[1]))
    passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1]))
    ((status == 0 || BASH_REMATCH[1] > 0)) || failed=$((failed + 1))
  else
    failed=$((failed + 1))
  fi
}

# Three at a time, however few cores there are: the tests of whole programs mostly wait, and one after
# the other, since they hold a lock; what computes runs beside them.
run_ctest() {
  local preset=$1 labels=$2 log="$root/build/$1/ctest-summary.log" status=0
  local command=(ctest --test-dir "$root/build/$preset" --output-on-failure --no-tests=error -j3)
  [[ -z $labels ]] || command+=(--label-regex "^($labels)\$")
  # gcc 12's ThreadSanitizer can't place its shadow memory where the kernel randomises addresses
  # by more than 28 bits.
  if [[ $preset == tsan ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
    command=(setarch "$(uname -m)" -R "${command[@]}")
  fi
  ASAN_OPTIONS="detect_stack_use_after_return=1:${ASAN_OPTIONS:-}" \
    UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}" \
    TSAN_OPTIONS="halt_on_error=1:suppressions=$root/tests/tsan.supp:${TSAN_OPTIONS:-}" \
    "${command[@]}" 2>&1 | tee "$log" || status=$?
  tally_ctest "$status" "$log"
}

test_preset() {
  local preset=$1 label=$2 tidy_seconds=$3
  note "building $preset"
  if ! "$root/scripts/build.sh" "$preset"; then
    echo "test.sh: $preset does not build; its tests did not run" >&2
    tally 1
    return
  fi
  if [[ $preset == release && -z $label && -n $tidy_seconds ]]; then check_tidy "$tidy_seconds"; fi
  note "testing $preset"
  run_ctest "$preset" "${label:-$(labels_of "$preset")}"
}

main() {
  local presets=(release asan-ubsan tsan) preset='' label='' quick=0 tidy=1 tidy_seconds=0
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --quick) quick=1 ;;
      --no-tidy) tidy=0 ;;
      --preset | --label | --tidy-seconds)
        (($# > 1)) || fail 64 "$1 needs a value; see scripts/test.sh --help"
        case $1 in
          --preset) preset=$2 ;;
          --label) label=$2 ;;
          *) tidy_seconds=$2 ;;
        esac
        shift
        ;;
      *) fail 64 "unknown argument '$1'; see scripts/test.sh --help" ;;
    esac
    shift
  done
  if ((quick)) && [[ -n $preset ]]; then
    fail 64 "--quick means --preset release, so give only one of --quick and --preset"
  fi
  if [[ -n $preset && " ${kPresets[*]} " != *" $preset "* ]]; then
    fail 64 "unknown preset '$preset'; choose one of: ${kPresets[*]}"
  fi
  [[ $tidy_seconds =~ ^[0-9]+$ ]] || fail 64 "--tidy-seconds needs a number, not '$tidy_seconds'"
  ((tidy)) || tidy_seconds=''
  if ((quick)) || [[ -n $preset || -n $label ]]; then presets=("${preset:-release}"); fi

  "$root/scripts/setup.sh"
  check_scripts
  check_format
  for preset in "${presets[@]}"; do
    test_preset "$preset" "$label" "$tidy_seconds"
  done
  note "finished"
  echo "$passed passed, $failed failed"
  ((failed == 0))
}

main "$@"
