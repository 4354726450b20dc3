# shellcheck shell=bash disable=SC2154,SC2034
# What the scripts share: errors, notes, flags. The script that sources this has set $script, its name.

readonly kPython=/usr/bin/python3

fail() {
  local code=$1
  shift
  echo "$script: $*" >&2
  exit "$code"
}

# A line on stderr.
note() {
  echo "$script: $*" >&2
}

# need_value FLAG NUMBER_OF_ARGUMENTS_LEFT
need_value() {
  (($2 > 1)) || fail 64 "$1 needs a value; see scripts/$script --help"
}

# need_number FLAG VALUE MIN MAX
need_number() {
  if [[ $2 =~ ^[0-9]{1,9}$ ]] && ((10#$2 >= $3 && 10#$2 <= $4)); then return 0; fi
  fail 64 "$1 takes a whole number from $3 to $4, not '$2'; see scripts/$script --help"
}
