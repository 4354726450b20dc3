# shellcheck shell=bash disable=SC2154,SC2034
# What the scripts share: errors, notes, flags. The script that sources this has set $script, its name.

readonly kPython=/usr/bin/python3

fail() {
  local code=$1
  shift
  echo "$script: $*" >&2
  exit "$code"
}

# A line on stderr; on a terminal it takes the place of a progress bar that stands there.
note() {
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  echo "$script: $*" >&2
}

# need_value FLAG NUMBER_OF_ARGUMENTS_LEFT
need_value() {
  (($2 > 1)) || fail 64 "$1 needs a value; see scripts/$script --help"
}

# need_number FLAG VALUE MIN MAX
need_number() {
  if [[ $2 =~ ^[0-9]{1,9}$ ]] && ((10#$2 >= $3 && 10#$2 <= $4)); then return 0; fi
  fail 64 "$1 takes a whole number from $3 to $4, and '$2' is none; see scripts/$script --help"
}

# field NAME JSON: the first whole number of that name in a JSON text, 0 without one. Good for names
# that stand there once; no process is started.
field() {
  if [[ $2 =~ \"$1\":\ *([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# until_true SECONDS COMMAND…: tries until the command succeeds; fails after that time.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

find_program() {
  [[ -x $bin/$1 ]] || fail 69 "MILLRACE_BIN names $bin, and there is no $1"
}

# find_programs PRESET [WHAT]: sets `bin`, the directory of the programs, after building them (or what
# build.sh calls so) unless MILLRACE_BIN names another.
find_programs() {
  bin=${MILLRACE_BIN:-$root/build/$1/bin}
  if [[ -z ${MILLRACE_BIN:-} ]]; then
    "$root/scripts/build.sh" "$1" "${2:---programs}"
    return
  fi
  find_program millrace-broker
  [[ ${2:-} != --loader ]] || find_program millrace-http-load
}
