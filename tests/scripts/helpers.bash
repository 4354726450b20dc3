# A copy of the scripts in a tree of their own, with stand-ins for the programs that they call: the
# flags are what is under test, and nothing is installed or built.

make_tree() {
  tree="$BATS_TEST_TMPDIR/tree"
  bin="$BATS_TEST_TMPDIR/bin"
  calls="$BATS_TEST_TMPDIR/calls"
  mkdir -p "$tree/scripts" "$tree/.ci" "$bin"
  : >"$calls"
  cp -r "$BATS_TEST_DIRNAME/../../scripts/." "$tree/scripts/"
  cp "$BATS_TEST_DIRNAME/../../.ci/run" "$tree/.ci/"
  export calls
  PATH="$bin:$PATH"
}

# stand_in NAME [BODY]: a program NAME that notes its arguments and then does BODY.
stand_in() {
  local path="$bin/$1"
  [[ $1 != */* ]] || path="$tree/$1"
  printf '#!/usr/bin/env bash\necho "%s $*" >>"$calls"\n%s\n' "${1##*/}" "${2:-}" >"$path"
  chmod +x "$path"
}

called() {
  grep -qF -- "$1" "$calls" || {
    echo "no call holds <$1>; the calls were:"
    cat "$calls"
    return 1
  }
}

not_called() {
  if grep -qF -- "$1" "$calls"; then
    cat "$calls"
    return 1
  fi
}

says() {
  [[ $output == *"$1"* ]] || {
    echo "the output does not say <$1>, but: $output"
    return 1
  }
}
