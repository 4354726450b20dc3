#!/usr/bin/env bats
# scripts/test.sh: which presets and labels it runs, and how it counts.

load helpers

setup() {
  make_tree
  stand_in scripts/setup.sh
  stand_in scripts/build.sh 'mkdir -p "$(dirname "$0")/../build/${1:-release}"'
  stand_in shellcheck
  stand_in clang-format 'echo "clang-format version 13.0.0"'
  stand_in clang-tidy 'echo "LLVM version 13.0.0"'
  stand_in setarch 'while [[ $1 != -R ]]; do shift; done; shift; "$@"'
  stand_in ctest 'echo "100% tests passed, 0 tests failed out of 7"'
  test_script="$tree/scripts/test.sh"
}

last_line() { echo "${lines[${#lines[@]} - 1]}"; }

@test "three presets run, each with its labels, and the sum is the last line" {
  run "$test_script"
  [ "$status" -eq 0 ]
  called "build.sh release"
  called "build.sh asan-ubsan"
  called "build.sh tsan"
  [ "$(grep -c 'build/release --output-on-failure --no-tests=error -j3$' "$calls")" -eq 1 ]
  called "--label-regex ^(unit|golden|asan|fuzz)\$"
  called "--label-regex ^(threads|tsan)\$"
  [ "$(last_line)" = "22 passed, 0 failed" ]
}

@test "the scripts themselves are checked" {
  run "$test_script" --quick
  local every=("$tree"/scripts/*.sh)
  called "shellcheck ${every[*]/#"$tree/"/} scripts/lib/"
  called " scripts/lib/common.sh "
  [ "$(last_line)" = "8 passed, 0 failed" ]
}

@test "a complaint of shellcheck counts as a failure" {
  stand_in shellcheck 'exit 1'
  run "$test_script" --quick
  [ "$status" -eq 1 ]
  [ "$(last_line)" = "7 passed, 1 failed" ]
}

@test "code that is not formatted counts as a failure" {
  stand_in git 'printf "a.h\0b.cpp\0"'
  stand_in clang-format 'case $1 in --version) echo "clang-format version 14.0.6" ;; *) exit 1 ;; esac'
  run "$tree/scripts/test.sh" --quick
  [ "$status" -eq 1 ]
  called "clang-format --dry-run -Werror a.h b.cpp"
  says "8 passed, 1 failed"
}

@test "without clang-format 14 the format is not checked, and that is said" {
  run "$tree/scripts/test.sh" --quick
  [ "$status" -eq 0 ]
  says "the format is not checked: clang-format 14 is not here"
}

@test "what clang-tidy finds counts as a failure" {
  stand_in clang-tidy 'echo "LLVM version 14.0.6"'
  stand_in python3 'exit 1'
  run "$tree/scripts/test.sh" --quick
  [ "$status" -eq 1 ]
  called "python3 $tree/scripts/lib/tidy.py --seconds 0"
  says "8 passed, 1 failed"
}

@test "--no-tidy leaves clang-tidy out" {
  stand_in clang-tidy 'echo "LLVM version 14.0.6"'
  run "$tree/scripts/test.sh" --no-tidy
  [ "$status" -eq 0 ]
  not_called tidy.py
}

@test "clang-tidy checks release, once it is built, and not for a label or another preset" {
  stand_in clang-tidy 'echo "LLVM version 14.0.6"'
  stand_in python3
  run "$tree/scripts/test.sh" --tidy-seconds 150
  [ "$status" -eq 0 ]
  [ "$(grep -c "tidy.py --seconds 150" "$calls")" -eq 1 ]
  : >"$calls"
  run "$tree/scripts/test.sh" --label unit
  run "$tree/scripts/test.sh" --preset tsan
  not_called tidy.py
}

@test "--quick is release only" {
  run "$test_script" --quick
  [ "$status" -eq 0 ]
  called "build.sh release"
  not_called "build.sh tsan"
  not_called "build.sh asan-ubsan"
}

@test "--preset runs that one, with its labels" {
  run "$test_script" --preset asan-ubsan
  [ "$status" -eq 0 ]
  called "^(unit|golden|asan|fuzz)\$"
  not_called "build.sh release"
}

@test "--label narrows the tests, in release unless a preset is named" {
  run "$test_script" --label unit
  [ "$status" -eq 0 ]
  called "build/release"
  called "^(unit)\$"
  not_called "build.sh tsan"
  run "$test_script" --label unit --preset tsan
  called "build/tsan"
}

@test "failed tests are counted, and the other presets still run" {
  stand_in ctest 'echo "71% tests passed, 2 tests failed out of 7"; exit 8'
  run "$test_script"
  [ "$status" -eq 1 ]
  called "build.sh tsan"
  [ "$(last_line)" = "16 passed, 6 failed" ]
}

@test "a build that fails counts as one, and the other presets still run" {
  stand_in scripts/build.sh '[[ $1 != release ]] && mkdir -p "$(dirname "$0")/../build/$1"'
  run "$test_script"
  [ "$status" -eq 1 ]
  says "release does not build"
  [ "$(last_line)" = "15 passed, 1 failed" ]
}

@test "a run without any tests is a failure" {
  stand_in ctest 'echo "No tests were found!!!"; exit 8'
  run "$test_script" --quick
  [ "$status" -eq 1 ]
  [ "$(last_line)" = "1 passed, 1 failed" ]
}

@test "a ctest that dies after its summary is a failure" {
  stand_in ctest 'echo "100% tests passed, 0 tests failed out of 7"; exit 3'
  run "$test_script" --quick
  [ "$status" -eq 1 ]
  [ "$(last_line)" = "8 passed, 1 failed" ]
}

@test "missing packages stop it before anything is built" {
  stand_in scripts/setup.sh 'exit 69'
  run "$test_script"
  [ "$status" -eq 69 ]
  not_called build.sh
}

@test "usage errors name what is wrong" {
  run "$test_script" --fast
  [ "$status" -eq 64 ]
  says "--fast"
  run "$test_script" --preset fuzzy
  [ "$status" -eq 64 ]
  says "'fuzzy'"
  says "release asan-ubsan tsan dev"
  run "$test_script" --label
  [ "$status" -eq 64 ]
  says "--label needs a value"
  run "$test_script" --quick --preset tsan
  [ "$status" -eq 64 ]
  [ ! -s "$calls" ]
}

@test "what continuous integration calls is the same script" {
  run "$tree/.ci/run" --quick
  [ "$status" -eq 0 ]
  called "setup.sh --hosts"
  [ "$(last_line)" = "8 passed, 0 failed" ]
}
