#!/usr/bin/env bash
# Builds one preset into build/PRESET, binaries in build/PRESET/bin.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly kPresets=(dev release asan-ubsan tsan fuzz)

usage() {
  cat <<'TEXT'
Usage: scripts/build.sh [PRESET] [--programs | --bench | --loader | --simulator]

Installs what is missing (scripts/setup.sh), configures with CMake and builds with Ninja.

  PRESET    release (default)  optimised, with symbols
            dev                unoptimised, quick to compile
            asan-ubsan         AddressSanitizer and UndefinedBehaviorSanitizer
            tsan               ThreadSanitizer
            fuzz               the fuzz targets with libFuzzer (needs clang)
  --programs  the three programs only, without the tests
  --bench     these and journal_bench (scripts/bench.sh)
  --loader    the programs and the HTTP load (scripts/overload-demo.sh)
  --simulator the simulator only (scripts/simulate.sh)
  --help      this text

The binaries are in build/PRESET/bin. Exit: 0; 64 usage; 69 packages are missing; otherwise that
of cmake or ninja.
TEXT
}

fail() {
  local code=$1
  shift
  echo "build.sh: $*" >&2
  exit "$code"
}

is_preset() {
  local name
  for name in "${kPresets[@]}"; do
    [[ $name == "$1" ]] && return 0
  done
  return 1
}

build() {
  local preset=$1
  shift
  "$root/scripts/setup.sh"
  cd "$root"
  mkdir -p build
  # Ninja has no lock of its own, and a demo may start while the tests build.
  exec 9>"build/.$preset.lock"
  flock -n 9 || {
    echo "build.sh: waiting for another build of $preset" >&2
    flock 9
  }
  cmake --preset "$preset" >&2
  cmake --build --preset "$preset" --parallel "$(nproc)" "$@" >&2
}

main() {
  local preset='' targets=() programs=(millrace-broker millrace-worker millrace-producer)
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --programs) targets=(--target "${programs[@]}") ;;
      --bench) targets=(--target "${programs[@]}" journal_bench) ;;
      --loader) targets=(--target "${programs[@]}" millrace-http-load) ;;
      --simulator) targets=(--target millrace_sim) ;;
      -*) fail 64 "unknown flag '$1'; see scripts/build.sh --help" ;;
      *)
        [[ -z $preset ]] || fail 64 "one preset at a time, and '$1' would be a second one"
        preset=$1
        ;;
    esac
    shift
  done
  preset=${preset:-release}
  is_preset "$preset" || fail 64 "unknown preset '$preset'; choose one of: ${kPresets[*]}"
  build "$preset" "${targets[@]}"
}

main "$@"
