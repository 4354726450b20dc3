# shellcheck shell=sh
# What cluster.sh runs on a host: `sh -s` reads this from ssh, and then calls of these functions. The
# host needs a POSIX shell, tar, and setsid or systemd. Everything is in one directory:
#   bin -> bin.SUM/ (programs), etc/ (keys, configuration), run/ (who runs), log/, millrace-data/
# Answers are lines on stdout: `unit NAME running|stale|stopping|stopped|dead PID`, `need bin|etc`, `error TEXT`,
# `status JSON`, `line UNIT TEXT`; the last is `end`, without which an answer was cut off.

umask 077
cluster=''
base=''
locked=''
fresh='' # units that were started
tenths=0 # of a second, for which stopping units are waited for yet

answer() { printf '%s\n' "$*"; }

finish() {
  answer end
  exit 0
}

fail() {
  answer "error $(printf '%s' "$*" | tr '\n' ' ')"
  finish
}

# enter DIRECTORY CLUSTER: a relative directory is below the home directory.
enter() {
  case $1 in
    /*) base=$1 ;;
    *) base=$HOME/$1 ;;
  esac
  cluster=$2
  why=$(mkdir -p "$base/run" "$base/log" 2>&1) || fail "can't make $base: ${why##*: }"
  cd "$base" || fail "can't enter $base"
}

# write FILE TEXT: all of it in the place of what was there, or nothing; prints why not. By cat, which says
# that a disk is full, as not every shell's echo does.
write() {
  why=$({ echo "$2" | cat >"$1.new" && mv -f "$1.new" "$1"; } 2>&1) && return
  rm -f "$1.new"
  echo "can't write to $base/${1%/*}: ${why##*: }"
  return 1
}

# Who takes care of the programs: systemd, systemd-user (when it outlives the login), or nobody.
manager() {
  if [ ! -d "${MILLRACE_SYSTEMD:-/run/systemd/system}" ] || ! command -v systemd-run >/dev/null; then
    echo setsid
  elif [ "$(id -u)" = 0 ]; then
    echo systemd
  elif [ "$(loginctl show-user "$(id -un)" -p Linger --value 2>/dev/null)" = yes ]; then
    echo systemd-user
  else
    echo setsid
  fi
}

# needs bin SUM etc SUM: ends here when something else is installed.
needs() {
  missing=0
  while [ $# -gt 1 ]; do
    if [ "$(cat "$1/SUM" 2>/dev/null)" != "$2" ]; then
      answer "need $1"
      missing=1
    fi
    shift 2
  done
  [ $missing = 0 ] || finish
}

# same_keys PUBLIC: what runs here has this public key of the brokers, or, if it is empty, none; else ends
# here. Others would put out all workers.
same_keys() {
  if [ -n "$1" ] && [ "$1" = "$(cat etc/broker.pub 2>/dev/null)" ]; then return 0; fi
  for name in $(units ''); do
    find_unit "$name" || continue
    if [ -n "$1" ] || grep -q -e --curve-key "run/$name.command"; then
      fail "$name runs with ${1:+other }keys; bring back the directory (--dir) of its cluster, or take that" \
        "down first: cluster.sh -f HOSTS down"
    fi
  done
}

# install_bin SUM: bin.SUM has been unpacked. Programs that run keep the files that they have open.
install_bin() {
  why=$(write "bin.$1/SUM" "$1") || fail "$why"
  reason=$("bin.$1/millrace-worker" --version 2>&1) ||
    fail "the programs don't run there: $reason (Debian: apt-get install libzmq5 libspdlog1.10 libfmt9 libmimalloc2.0)"
  { ln -sfn "bin.$1" bin.next && mv -T bin.next bin; } || fail "can't write to $base"
  for old in bin.*/; do
    [ "$old" = "bin.$1/" ] || rm -rf "$old"
  done
}

# install_etc SUM: each file takes the place of the old one at once, since a broker may read it.
install_etc() {
  mkdir -p etc
  for file in "etc.$1"/*; do
    [ ! -e "$file" ] || mv -f "$file" "etc/${file##*/}" || fail "can't write to $base/etc"
  done
  why=$(write etc/SUM "$1") || fail "$why"
  rm -rf "etc.$1"
}

# The start time of a process in ticks since boot; fails when there is none.
start_time() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2012
  tasks=$(ls "/proc/$1/task" 2>/dev/null | wc -l)
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  # One that was killed keeps its ports until the last of its threads has ended.
  [ "$1" != Z ] || [ "$tasks" -gt 1 ] || return 1
  shift 19
  echo "$1"
}

# read_record NAME: `pid` and `started` of the unit's pid file, "PID START", "PID ended" or "0 MANAGER"; fails
# when it holds anything else, for then nobody knows what runs.
read_record() {
  pid=''
  started=''
  read -r pid started <"run/$1.pid"
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  case $started in
    systemd | systemd-user | ended) ;;
    '') ! start_time "$pid" >/dev/null ;; # a number alone may be of any process
    *[!0-9]*) return 1 ;;
  esac
}

# recorded NAME: nothing is known of it, or its pid file can be read; else it says what to do.
recorded() {
  [ -e "run/$1.pid" ] || return 0
  read_record "$1" && return
  answer "error $base/run/$1.pid does not say which process $1 is: end that process if it runs, then remove the file"
  return 1
}

# Sets `pid`; fails when the unit does not run, or its number belongs to another process by now.
find_unit() {
  pid=''
  started=''
  { [ -r "run/$1.pid" ] && read_record "$1"; } || return 1
  case $started in
    systemd*) pid=$(unit_of "$started" show -p MainPID --value "$(unit_name "$1")") && [ "${pid:-0}" -gt 0 ] ;;
    *) since=$(start_time "$pid") && [ "$since" = "$started" ] ;;
  esac
}

unit_name() { echo "millrace-$cluster-$1.service"; }

# unit_of systemd|systemd-user ARGUMENTS…
unit_of() {
  case $1 in
    systemd-user) shift && systemctl --user "$@" ;;
    *) shift && systemctl "$@" ;;
  esac
}

# configuration UNIT: a checksum of its file, where it has one. Keys don't count: a broker takes them anew.
configuration() { [ ! -e "etc/${1%-*}.toml" ] || cksum <"etc/${1%-*}.toml" | tr ' ' -; }

# alone: until this shell ends, no other one starts or stops anything here; that of a command which was
# interrupted goes on, and would take what is started anew for what it waits for. Where there is setsid or
# systemd there is flock too.
alone() {
  [ -z "$locked" ] && command -v flock >/dev/null || return 0
  why=$(touch run/lock 2>&1) || fail "can't write to $base/run: ${why##*: }"
  exec 9<>run/lock # held as long as anybody has it open, so what is started must not
  waits=450 # tenths of a second
  until flock -n 9; do
    [ $waits -gt 0 ] || fail "an earlier command still starts or stops something there; try again when it has ended"
    sleep 0.1
    waits=$((waits - 1))
  done
  locked=yes
}

# patience SECONDS: for all stopping units that `ensure` meets, together.
patience() { tenths=$(($1 * 10)); }

# ensure NAME COMMAND…: runs it in $base unless it runs. One that runs with other programs, arguments or
# configuration goes on; one that was told to stop, by a command that did not wait for that, is waited for
# and started anew.
ensure() {
  name=$1
  shift
  alone
  recorded "$name" || return 0
  sum=$(configuration "$name")
  command="$(cat bin/SUM) $*${sum:+ $sum}"
  if is_stopping "$name"; then
    answer "note $name has been told to stop; it is started anew when it has ended"
    await_end "$name"
  fi
  if find_unit "$name"; then
    if [ "$(cat "run/$name.command")" = "$command" ]; then
      answer "unit $name running $pid"
    else
      answer "unit $name stale $pid"
    fi
    return 0
  fi
  rm -f "run/$name.stopping" # of one that has ended since
  why=$(write "run/$name.command" "$command") || fail "can't start $name: $why"
  how=$(manager)
  if [ "$how" = setsid ]; then
    why=$(begin "$name" "$@" 2>&1)
  else
    why=$(hand_over "$how" "$name" "$@" 2>&1)
  fi
  if [ -n "$why" ]; then
    [ "$how" != setsid ] || forget "$name" # systemd may have it still, and start it again
    fail "can't start $name: $why"
  fi
  find_unit "$name"
  answer "unit $name started ${pid:-0}"
  fresh="$fresh $name"
}

# begin NAME PROGRAM ARGUMENTS…: in a session of its own. The process writes its pid before it becomes the
# program, so that none runs that nobody knows of. Prints why it can't; who reads that has waited for it,
# since the program has another stdout.
begin() {
  name=$1
  program=$2
  shift 2
  {
    self=$(exec sh -c 'echo "$PPID"' 2>/dev/null)
    write "run/$name.pid" "$self $(start_time "$self")" || exit
    exec setsid "$base/$program" "$@" </dev/null >>"log/$name.log" 2>&1 9>&-
  } &
}

# hand_over MANAGER NAME PROGRAM ARGUMENTS…: to systemd. Prints why it can't.
hand_over() {
  scope=''
  [ "$1" = systemd ] || scope=--user
  name=$2
  program=$3
  write "run/$name.pid" "0 $1" || return
  shift 3
  # shellcheck disable=SC2086
  said=$(systemd-run $scope --quiet --collect --unit="$(unit_name "$name")" -p WorkingDirectory="$base" \
    -p StandardOutput="append:$base/log/$name.log" -p StandardError="append:$base/log/$name.log" \
    -p Restart=on-failure -p RestartSec=1 -p "RestartPreventExitStatus=64 65 73 78" -p KillMode=mixed \
    -p TimeoutStopSec=60 -- "$base/$program" "$@" 2>&1 9>&-) || echo "systemd-run: $said"
}

# settled NAME: it runs, and two looks in a row find it waiting, as who has begun its work does; one that
# is still being started wants the CPU, however busy the machine. 6 s at most.
settled() {
  name=$1
  waits=0
  for _ in $(seq 40); do
    sleep 0.15
    find_unit "$name" || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    case ${stat##*) } in
      S*) waits=$((waits + 1)) ;;
      *) waits=0 ;;
    esac
    [ "$waits" -lt 2 ] || return 0
  done
}

# survive: those that were started have not ended at once, as with a flag that they don't know.
survive() {
  for name in $fresh; do
    settled "$name" || fail "$name ended at once; its last words: $(tail -n 2 "log/$name.log" | tr '\n' ' ')"
  done
}

# The names of the units that have run here, by kind: `units worker`, `units ''` for all.
units() {
  for file in run/"$1"*.pid; do
    [ ! -e "$file" ] || { file=${file##*/} && echo "${file%.pid}"; }
  done
}

is_stopping() { [ -e "run/$1.stopping" ] && find_unit "$1"; }

# signal NAME TERM|KILL: SIGTERM once only, since a second one cuts off what a worker still runs. The
# mark is for whoever comes later; where there is no room for one, nobody knows.
signal() {
  find_unit "$1" || return 0
  [ "$2" = KILL ] || [ ! -e "run/$1.stopping" ] || return 0
  case $started in
    systemd*)
      if [ "$2" = TERM ]; then
        unit_of "$started" stop --no-block "$(unit_name "$1")"
      else
        unit_of "$started" kill -s "$2" "$(unit_name "$1")"
      fi
      ;;
    *) kill -s "$2" "$pid" 2>/dev/null ;;
  esac
  touch "run/$1.stopping" 2>/dev/null
  return 0
}

# await_end NAME: SIGKILL when there are no tenths left.
await_end() {
  while find_unit "$1" && [ $tenths -gt 0 ]; do
    sleep 0.1
    tenths=$((tenths - 1))
  done
  if find_unit "$1"; then
    answer "note $1 did not stop in time after SIGTERM; it gets SIGKILL"
    signal "$1" KILL
    while find_unit "$1"; do sleep 0.1; done
  fi
  forget "$1"
}

forget() { rm -f "run/$1.pid" "run/$1.command" "run/$1.stopping"; }

# stop SECONDS NAME…: SIGTERM to all at once, which drains workers; SIGKILL to who is left after that.
stop() {
  alone
  patience "$1"
  shift
  for name in "$@"; do signal "$name" TERM; done
  for name in "$@"; do
    recorded "$name" || continue
    await_end "$name"
    answer "unit $name stopped 0"
  done
}

# keep KIND NUMBER SECONDS: drains those of this kind with a higher number, KIND-1 being the first.
keep() {
  extra=''
  for name in $(units "$1-"); do
    [ "${name#"$1"-}" -le "$2" ] || extra="$extra $name"
  done
  # shellcheck disable=SC2086
  [ -z "$extra" ] || stop "$3" $extra
}

# stop_kind KIND SECONDS: all of a kind that have run here.
stop_kind() {
  # shellcheck disable=SC2046
  stop "$2" $(units "$1")
}

list() {
  for name in $(units ''); do
    recorded "$name" || continue
    if is_stopping "$name"; then
      answer "unit $name stopping $pid"
    elif find_unit "$name"; then
      answer "unit $name running $pid"
    elif [ ! -e "run/$name.stopping" ]; then # else it has ended as it was told
      answer "unit $name dead 0"
    fi
  done
}

# ask HTTP: with the broker's configuration, which may have the token that its HTTP wants to see.
ask() {
  set -- --http "$1" --json
  [ ! -e etc/broker.toml ] || set -- --config etc/broker.toml "$@"
  bin/millrace-broker status "$@"
}

# refused HTTP: asking again would be of no use, as with a wrong token; says why.
refused() {
  why=$(ask "$1" 2>&1)
  [ $? = 78 ] && answer "error the broker can't be asked: $(printf '%s' "$why" | tr '\n' ' ')"
}

# status_of_broker HTTP: in a line; nothing when another one than this unit's answers there.
status_of_broker() {
  said=$(ask "$1" 2>/dev/null | tr -d '\n')
  find_unit broker || return 1
  case $said in
    *"\"pid\":$pid,"*) printf '%s' "$said" ;;
    *) return 1 ;;
  esac
}

last_words() { tail -n 3 "log/$1.log" 2>/dev/null | tr '\n' ' '; }

# ready HTTP SECONDS: until this unit's broker serves.
ready() {
  tenths=$(($2 * 10))
  until status_of_broker "$1" | grep -q '"state": *"serving"'; do
    ! refused "$1" || finish
    if ! find_unit broker || [ $tenths -le 0 ]; then
      fail "the broker is not ready; its last words: $(last_words broker)"
    fi
    sleep 0.1
    tenths=$((tenths - 1))
  done
}

# ready_gateway HTTP SECONDS: until it takes jobs; without curl there, nobody can ask it.
ready_gateway() {
  command -v curl >/dev/null || return 0
  tenths=$(($2 * 10))
  until find_unit gateway && curl -gfsS --max-time 2 -o /dev/null "http://$1/readyz" 2>/dev/null; do
    if ! find_unit gateway || [ $tenths -le 0 ]; then
      fail "the gateway is not ready; its last words: $(last_words gateway)"
    fi
    sleep 0.1
    tenths=$((tenths - 1))
  done
}

# await HTTP SECONDS NAME…: until workers of these names are registered.
await() {
  http=$1
  tenths=$(($2 * 10))
  shift 2
  while :; do
    now=$(status_of_broker "$http" | sed 's/{/\n{/g' | grep '"connected": *true')
    absent=''
    for name in "$@"; do
      printf '%s' "$now" | grep -q "\"name\": *\"$name\"" || absent="$absent $name"
    done
    [ -n "$absent" ] || return 0
    [ -n "$now" ] || ! refused "$http" || finish
    find_unit broker || fail "no broker runs there: cluster.sh up starts it; its last words: $(last_words broker)"
    [ $tenths -gt 0 ] || fail "not registered with the broker:$absent"
    sleep 0.1
    tenths=$((tenths - 1))
  done
}

# broker HTTP: what it says of itself, in a line.
broker() {
  said=$(status_of_broker "$1")
  if [ -n "$said" ]; then
    answer "status $said"
  elif refused "$1"; then
    return 0
  elif [ -n "$(ask "$1" 2>/dev/null)" ]; then
    answer "error the broker does not answer, but another one does at $1; its last words: $(last_words broker)"
  else
    answer "error the broker does not answer; its last words: $(last_words broker)"
  fi
}

# logs LINES KIND: the ends of the logs.
logs() {
  for file in log/"$2"*.log; do
    [ -e "$file" ] || continue
    name=${file##*/}
    tail -n "$1" "$file" | sed "s/^/line ${name%.log} /"
  done
}
