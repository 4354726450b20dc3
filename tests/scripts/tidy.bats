#!/usr/bin/env bats
# scripts/lib/tidy.py: what clang-tidy is run on, and what is remembered.

load helpers

setup() {
  make_tree
  cd "$tree"
  mkdir -p common build/release
  for name in one two; do
    echo "#include \"common/all.h\"" >"common/$name.cpp"
  done
  echo "// all" >common/all.h
  touch .clang-tidy
  echo /build/ >.gitignore
  entry() {
    echo "{\"directory\": \"$tree/build/release\", \"command\": \"c++ -o $1.o -c $1.cpp\", \"file\": \"$tree/common/$1.cpp\"}"
  }
  echo "[$(entry one), $(entry two)]" >build/release/compile_commands.json
  stand_in ninja 'for name in one two; do
    printf "%s.o: #deps 2, deps mtime 1 (VALID)\n    ../../common/%s.cpp\n    ../../common/all.h\n\n" $name $name
  done'
  stand_in ccache "echo $BATS_TEST_TMPDIR/cache"
  stand_in clang-tidy
  git init -q -b main .
  commit "first"
  commit "second"
  tidy=(python3 scripts/lib/tidy.py)
}

commit() {
  git add -A
  git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m "$1"
}

checked() { grep -c "^clang-tidy -p .*$1" "$calls"; }

@test "what was clean is not checked again" {
  run "${tidy[@]}" --seconds 60
  [ "$status" -eq 0 ]
  [ "$(checked one.cpp)" -eq 1 ]
  [ "$(checked two.cpp)" -eq 1 ]
  run "${tidy[@]}" --seconds 60
  [ "$status" -eq 0 ]
  [ "$(checked one.cpp)" -eq 1 ]
  says "2 known to be clean"
}

@test "what has findings is shown, fails, and is checked again" {
  stand_in clang-tidy 'if [[ $1 == -p && $* == *two.cpp ]]; then echo "two.cpp:1: a finding"; exit 1; fi'
  for run in 1 2; do
    run "${tidy[@]}" --seconds 60
    [ "$status" -eq 1 ]
    says "a finding"
    [ "$(checked two.cpp)" -eq "$run" ]
  done
  [ "$(checked one.cpp)" -eq 1 ]
}

@test "what changed is checked without a time; the rest is left, and that is said" {
  echo "int i;" >>common/two.cpp
  run "${tidy[@]}"
  [ "$status" -eq 0 ]
  [ "$(checked two.cpp)" -eq 1 ]
  [ "$(checked one.cpp)" -eq 0 ]
  says "1 that did not change left unchecked"
}

@test "a changed header is checked with one source that includes it, and outdates all of them" {
  run "${tidy[@]}" --seconds 60
  echo "int i;" >>common/all.h
  : >"$calls"
  run "${tidy[@]}"
  [ "$(checked one.cpp)" -eq 1 ]
  [ "$(checked two.cpp)" -eq 0 ]
}

@test "another configuration or version outdates everything" {
  run "${tidy[@]}" --seconds 60
  echo "Checks: '-*'" >.clang-tidy
  run "${tidy[@]}" --seconds 60
  [ "$(checked one.cpp)" -eq 2 ]
  stand_in clang-tidy 'echo "version 15"'
  run "${tidy[@]}" --seconds 60
  [ "$(checked one.cpp)" -eq 3 ]
}

@test "on main, what changed is what came since the last run without findings" {
  run "${tidy[@]}" --seconds 60
  echo "int i;" >>common/one.cpp
  commit "third"
  echo "int i;" >>common/two.cpp
  commit "fourth"
  : >"$calls"
  run "${tidy[@]}"
  [ "$(checked one.cpp)" -eq 1 ]
  [ "$(checked two.cpp)" -eq 1 ]
}

@test "without a build that says which headers a source has, it says so" {
  stand_in ninja
  run "${tidy[@]}"
  [ "$status" -eq 2 ]
  says "holds nothing that was built with ninja"
}
