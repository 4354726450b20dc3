#!/usr/bin/env bats
# scripts/build.sh: which preset it builds, and what it refuses.

load helpers

setup() {
  make_tree
  stand_in scripts/setup.sh
  stand_in cmake
  build="$tree/scripts/build.sh"
}

@test "release is what is built when nothing is said" {
  run "$build"
  [ "$status" -eq 0 ]
  called "setup.sh"
  called "cmake --preset release"
  called "cmake --build --preset release"
}

@test "every preset can be chosen" {
  for preset in dev release asan-ubsan tsan fuzz; do
    run "$build" "$preset"
    [ "$status" -eq 0 ]
    called "cmake --build --preset $preset"
  done
}

@test "the programs alone can be built" {
  run "$build" --programs
  [ "$status" -eq 0 ]
  called "--target millrace-broker millrace-worker millrace-producer"
  run "$build" --bench
  called "--target millrace-broker millrace-worker millrace-producer journal_bench"
  run "$build" --loader
  called "millrace-producer millrace-http-load"
  run "$build" --simulator
  called "--target millrace_sim"
  : >"$calls"
  run "$build" dev
  not_called "--target"
}

@test "it works from any directory" {
  cd /
  stand_in cmake 'pwd >>"$calls"'
  run "$build"
  [ "$status" -eq 0 ]
  called "$tree"
}

@test "progress goes to stderr" {
  stand_in cmake 'echo configuring'
  [ -z "$("$build" 2>/dev/null)" ]
}

@test "an unknown preset names the choices and builds nothing" {
  run "$build" fast
  [ "$status" -eq 64 ]
  says "'fast'"
  says "dev release asan-ubsan tsan fuzz"
  [ ! -s "$calls" ]
}

@test "a second preset or an unknown flag is a usage error" {
  run "$build" dev tsan
  [ "$status" -eq 64 ]
  says "'tsan'"
  run "$build" --fast
  [ "$status" -eq 64 ]
  says "--fast"
}

@test "nothing is built when packages are missing" {
  stand_in scripts/setup.sh 'exit 69'
  run "$build"
  [ "$status" -eq 69 ]
  not_called cmake
}

@test "a configuration that fails is not built, and fails" {
  stand_in cmake '[[ $* != "--preset release" ]]'
  run "$build"
  [ "$status" -ne 0 ]
  not_called "--build"
}

@test "--help needs nothing" {
  run "$build" --help
  [ "$status" -eq 0 ]
  says "asan-ubsan"
  [ ! -s "$calls" ]
}
