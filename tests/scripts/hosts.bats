#!/usr/bin/env bats
# scripts/cluster.sh -f HOSTS: the hosts file, --dry-run, and every command, with an ssh that runs
# everything here, each host in a home directory of its own. With real sshds, in network namespaces, it
# is tested in tests/integration/hosts.

load helpers

setup() {
  make_tree
  export homes="$BATS_TEST_TMPDIR/homes" MILLRACE_BIN="$BATS_TEST_TMPDIR/programs"
  mkdir -p "$homes" "$MILLRACE_BIN" "$homes/busy" "$homes/registered"
  stand_in ssh '
    for last; do :; done
    previous="" host=""
    for word; do [[ $previous == -- ]] && host=${word#*@}; previous=$word; done
    case $host in
      locked*) echo "me@$host: Permission denied (publickey,password)." >&2; exit 255 ;;
      full*) # where files can be made but not written
        [[ $last != *tar* ]] || { echo "tar: x: Cannot write: No space left on device" >&2
          echo "tar: Exiting with failure status due to previous errors" >&2; exit 2; } ;;
      gone*) echo "ssh: connect to host $host port 22: Connection refused" >&2; exit 255 ;;
    esac
    touch "$homes/busy/$$"
    sleep "${slow:-0}"
    ls "$homes/busy" | wc -l >>"$homes/most"
    mkdir -p "$homes/$host"
    HOME="$homes/$host" sh -c "cd; $last" | tee -a "$homes/answers"
    code=${PIPESTATUS[0]}
    rm "$homes/busy/$$"
    exit $code'
  program millrace-broker '
    case $1 in
      keygen) [[ ! -e $2 ]] || exit 73; umask 077; echo "secret of ${2##*/}" >"$2"; echo "public of ${2##*/}" >"$2.pub" ;;
      keys) echo "$*" >>"$4" ;;
      serve) exec sleep 300 ;;
      status)
        if [[ $* == *,* ]]; then # of several: the sum of ready jobs, as far as they answer
          ready=0
          while [[ $1 != --http ]]; do shift; done
          for address in ${2//,/ }; do
            ! answer=$(/usr/bin/curl -fs "http://$address/v1/status") || [[ $answer != *'"'"'"ready": 3'"'"'* ]] || ready=$((ready + 3))
          done
          echo "{\"brokers\":[],\"state\":\"summed\",\"jobs\":{\"ready\":$ready},\"workers\":[{\"name\":\"n1.worker-1\",\"brokers\":2}]}"
          exit
        fi
        # of the broker of this directory, whose workers are those that were started for it
        read -r pid _ <run/broker.pid && [[ $(ps -o stat= -p "$pid") != [ZX]* ]] && kill -0 "$pid" || exit 69
        if [[ -e $homes/token ]] && ! { [[ $* == *"--config etc/broker.toml"* ]] && grep -q token etc/broker.toml; }; then
          echo "the broker asks for its token" >&2 && exit 78
        fi
        [[ $pid != 0 ]] || pid=$(cat "$homes/active")
        printf "{\"state\":\"serving\",\"pid\":${another:-$pid},\"jobs\":{\"ready\":3},\"workers\":["
        for name in $(ls "$homes/registered/${PWD##*/}"); do printf "{\"name\":\"%s\",\"connected\":true}," "$name"; done
        printf "{\"name\":\"last\",\"connected\":false}]}\n" ;;
    esac'
  program millrace-worker '
    [[ $1 != --version ]] || exit 0
    while [[ $1 != --broker ]]; do shift; done
    IFS=, read -ra brokers <<<"$2"
    while [[ $1 != --name ]]; do shift; done
    for broker in "${brokers[@]}"; do
      mkdir -p "$homes/registered/${broker%:*}"
      touch "$homes/registered/${broker%:*}/$2"
    done
    exec sleep 300'
  # A gateway that is ready.
  program millrace-producer 'while [[ $1 != --http ]]; do shift; done
    exec /usr/bin/python3 -c "import http.server as h, sys
class Ready(h.BaseHTTPRequestHandler):
  def log_message(self, *_): pass
  def do_GET(self): self.send_response(200 if self.path == \"/readyz\" else 404); self.end_headers()
h.HTTPServer((\"127.0.0.1\", int(sys.argv[1])), Ready).serve_forever()" "${2##*:}"'
  hosts="$BATS_TEST_TMPDIR/lab.hosts"
  state="$BATS_TEST_TMPDIR/state"
}

program() {
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$MILLRACE_BIN/$1"
  chmod +x "$MILLRACE_BIN/$1"
}

teardown() {
  local file pid
  for file in "$homes"/*/.millrace/lab/*/run/*.pid; do
    [[ -e $file ]] || continue
    read -r pid _ <"$file" || true
    [[ $pid =~ ^[1-9][0-9]*$ ]] || continue # 0 would be all of this test
    kill -s KILL "$pid" 2>/dev/null || true
  done
  if [[ -e $homes/active ]]; then kill "$(cat "$homes/active")" 2>/dev/null || true; fi
}

cluster() {
  run "$tree/scripts/cluster.sh" -f "$hosts" --dir "$state" "$@"
}

# `!` before a command that is not the last would never fail a test.
fails() {
  if "$@" 2>/dev/null; then return 1; fi
}

# soon COMMAND…: within ten seconds.
soon() {
  for _ in {1..200}; do
    if "$@"; then return 0; fi
    sleep 0.05
  done
  return 1
}

# A process that has ended may stay for a while as a zombie.
runs() { [[ $(ps -o stat= -p "$1") == [^Z]* ]]; }

# A worker that notes SIGTERM, and ends when $homes/finished.PID is there.
busy_worker() {
  program millrace-worker '
    [[ $1 != --version ]] || exit 0
    while [[ $1 != --name ]]; do shift; done
    mkdir -p "$homes/registered/b"
    touch "$homes/registered/b/$2"
    trap "echo TERM >>$homes/told" TERM
    until [[ -e $homes/finished.$$ ]]; do sleep 0.05; done'
}

# hosts_are LINE…
hosts_are() { printf '%s\n' "$@" >"$hosts"; }

place_of() { echo "$homes/$1/.millrace/lab/$1"; }

@test "what is wrong with a hosts file is said, with the line" {
  for line in 'n1 role=boss' 'n1 color=red' 'n1 role' 'n[3-1]' 'n[1-' 'n1:99999' '0/n1' '-oProxyCommand=x' \
    'me@:' 'n1 labels=a,b!' 'n[1-2] address=10.0.0.1' 'n[1-99999999]' 'n[a-c]' 'a;b' \
    'node[1-4]:[22-23]' 'ssh://w1' 'n1:' 'fe80::1' '[fe80::1' '[fe80::zz]' 'n1 address=10.0.0.1:5570' 'n1 address=999.1.1.1' \
    'n1 address=0.0.0.0' 'n1 address=::' 'n1 address=a/b' 'n1 address=[10'; do
    hosts_are 'b role=broker' "$line"
    cluster status
    [ "$status" -eq 65 ] || { echo "$line: $status $output"; return 1; }
    says "$hosts:2: "
  done
  hosts_are 'n1'
  cluster status
  [ "$status" -eq 65 ]
  says "no host has role=broker"
  hosts_are '# nothing'
  cluster status
  [ "$status" -eq 65 ]
  hosts_are ': role=broker' 'n1'
  cluster status
  [ "$status" -eq 65 ]
  says "address="
  hosts_are 'b role=broker' '4/n1' '8/n1'
  cluster status
  [ "$status" -eq 65 ]
  says "n1 has 4 threads"
  hosts_are 'b role=broker' 'fe80::1'
  cluster status
  says "[2001:db8::5]:22"
  hosts_are 'b role=broker' 'w1:2' 'w1_2'
  cluster status
  [ "$status" -eq 65 ]
  says "'w1:2' and 'w1_2'"
  printf 'b role=broker\nn1 # caf\351\n' >"$hosts"
  cluster status
  [ "$status" -eq 65 ]
  says "$hosts:2: "
  rm "$hosts"
  cluster status
  [ "$status" -eq 74 ]
  not_called ssh
}

@test "wrong arguments are usage errors" {
  hosts_are 'b role=broker'
  for arguments in "" frobnicate scale "scale many" "up x" "up --queue nothing" "up --workers -2" \
    "up --port-base 99999" "--frobnicate up" "up --config broker=/nowhere" "drain nobody --dry-run" "up down"; do
    # shellcheck disable=SC2086
    cluster $arguments
    [ "$status" -eq 64 ] || { echo "$arguments: $status $output"; return 1; }
  done
  for arguments in status "scale 2" rolling-restart logs; do
    # shellcheck disable=SC2086
    cluster $arguments
    [ "$status" -eq 69 ]
    says "up"
  done
  not_called ssh
}

@test "--dry-run shows what would run where, and touches nothing" {
  hosts_are 'b role=broker address=10.1.2.3' '8/me@n[08-10]:2222  labels=cpu # three' 'edge role=gateway,worker'
  cluster up --dry-run --queue 'a=exec:echo "$X"' --workers 6 --pool auto
  [ "$status" -eq 0 ]
  says "-p 2222 -- me@n08"
  says "me@n09"
  says "-- edge"
  says "ensure broker bin/millrace-broker serve --frontend tcp://10.1.2.3:5570 --backend tcp://10.1.2.3:5571"
  says "--curve-key etc/broker.key --curve-allow etc/allow"
  says "ensure worker-2 bin/millrace-worker run --broker 10.1.2.3:5571 --queue 'a=exec:echo \"\$X\"' --label cpu --pool fixed:8"
  says "--name n08_2222.worker-2"
  says "--name edge.worker-1"
  says "--pool auto"
  says "ensure gateway bin/millrace-producer gateway --http 0.0.0.0:5590"
  [[ $output != *"n10_2222.worker-2"* ]]
  not_called ssh
  [ ! -e "$state" ]
  local before=$output
  cluster up --dry-run --queue 'a=exec:echo "$X"' --workers 6 --pool auto
  [ "$output" = "$before" ]
}

@test "IPv6 addresses stand in brackets wherever a port follows" {
  hosts_are '[2001:db8::5] role=broker' 'b2 role=broker address=2001:db8::6' 'b3 role=broker address=[2001:db8:0::7]' \
    'me@[2001:db8::8]:2222 role=gateway,worker' '[::1] role=gateway'
  cluster up --dry-run
  [ "$status" -eq 0 ]
  says "[2001:db8::5]: ssh"
  says "-- 2001:db8::5 "
  says "-p 2222 -- me@2001:db8::8 "
  says "serve --frontend 'tcp://[2001:db8::5]:5570' --backend 'tcp://[2001:db8::5]:5571' --http 127.0.0.1:5580"
  says "'tcp://[2001:db8::6]:5570'"
  says "--broker '[2001:db8::5]:5571,[2001:db8::6]:5571,[2001:db8::7]:5571'"
  says "gateway --http '[2001:db8::8]:5590' --broker '[2001:db8::5]:5570,[2001:db8::6]:5570,[2001:db8::7]:5570' --token-file"
  says "gateway --http '[::1]:5590' --broker '[2001:db8::5]:5570,[2001:db8::6]:5570,[2001:db8::7]:5570' --curve-key"
}

@test "ranges are ClusterShell's" {
  hosts_are 'b role=broker' 'r[1-2]n[08-09,15]-x' 'm[1-2]'
  cluster up --dry-run
  for name in r1n08-x r1n09-x r1n15-x r2n08-x r2n09-x r2n15-x m1 m2; do says "-- $name '"; done
}

@test "up twice is one cluster, and what has not changed is not sent again" {
  hosts_are 'b role=broker' 'n[1-2]'
  cluster up --workers 4
  [ "$status" -eq 0 ]
  says "1 broker, 4 workers"
  [ "$(grep -c 'tar -xpf' "$calls")" -eq 6 ] # programs and keys of three hosts
  local pids
  pids=$(cat "$homes"/*/.millrace/lab/*/run/*.pid)
  : >"$calls"
  cluster up
  [ "$status" -eq 0 ]
  says "1 broker, 4 workers"
  not_called "tar -xpf"
  [ "$(cat "$homes"/*/.millrace/lab/*/run/*.pid)" = "$pids" ]
  echo '# newer' >>"$MILLRACE_BIN/millrace-worker"
  cluster up
  [ "$(grep -c 'tar -xpf' "$calls")" -eq 3 ]
  says "still runs its old version or settings"
  [ "$(cat "$homes"/*/.millrace/lab/*/run/*.pid)" = "$pids" ]
}

@test "brokers that all need the programs at once get them, packed once" {
  hosts_are 'b[1-4] role=broker'
  stand_in strip 'sleep 0.2; cp "$3" "$2"'
  cluster up
  [ "$status" -eq 0 ]
  says "4 brokers"
  [ "$(grep -c '^strip' "$calls")" -eq 3 ]
}

@test "what died is started again, and down stops everything" {
  hosts_are 'b role=broker' 'n1'
  cluster up
  local pid
  read -r pid _ <"$(place_of n1)/run/worker-1.pid"
  kill -s KILL "$pid"
  cluster status
  says "worker-1     dead"
  cluster up --json
  [[ $output == *'"state": "started"'* ]]
  read -r pid _ <"$(place_of n1)/run/worker-1.pid"
  kill -s 0 "$pid"
  cluster down
  [ "$status" -eq 0 ]
  fails runs "$pid"
  [ -z "$(ls "$(place_of b)"/run/*.pid "$(place_of n1)"/run/*.pid 2>/dev/null)" ]
  cluster down
  [ "$status" -eq 0 ]
}

@test "a broker that ended is not taken for another one that answers at its port" {
  hosts_are 'b role=broker' 'n1'
  cluster up
  [ "$status" -eq 0 ]
  another=1 cluster status
  [ "$status" -eq 69 ]
  says "the broker does not answer, but another one does at 127.0.0.1:5580"
  cluster down
  program millrace-broker 'case $1 in
      keygen | keys) ;;
      serve) echo "the port is in use"; exit 73 ;;
      status) echo "{\"state\":\"serving\",\"pid\":1,\"jobs\":{},\"workers\":[]}" ;;
    esac'
  cluster up
  [ "$status" -eq 1 ]
  says "b: broker exited immediately; its last log lines: the port is in use"
  # One that ends later, with another at its port all the time.
  program millrace-broker 'case $1 in
      serve) until [[ -e $homes/asked ]]; do sleep 0.05; done; echo "the port is in use"; exit 73 ;;
      status) touch "$homes/asked"; echo "{\"state\":\"serving\",\"pid\":1,\"jobs\":{},\"workers\":[]}" ;;
    esac'
  cluster up
  [ "$status" -eq 1 ]
  says "the broker is not ready; its last log lines: the port is in use"
}

@test "a broker whose HTTP wants a token is asked with that of its configuration, or the refusal is said at once" {
  hosts_are 'b role=broker' 'n1'
  touch "$homes/token"
  cluster up
  [ "$status" -eq 1 ]
  says "b: can't read the broker's status: the broker asks for its token"
  echo 'http-token = "secret"' >"$state/broker.toml"
  for arguments in "up --config broker=$state/broker.toml" status "scale 2"; do
    # shellcheck disable=SC2086
    cluster $arguments
    [ "$status" -eq 0 ]
  done
  rm "$(place_of b)/etc/broker.toml"
  cluster status
  [ "$status" -eq 69 ]
  says "b: can't read the broker's status: the broker asks for its token"
}

@test "status says what should run and does not, and exits 1" {
  hosts_are 'b role=broker' 'n[1-2]' 'g role=gateway'
  cluster up --workers 3
  [ "$status" -eq 0 ]
  cluster status
  [ "$status" -eq 0 ]
  cluster drain n2 # on purpose
  cluster status
  [ "$status" -eq 1 ] # of three, all of which n1 should have now
  says "n1                   worker-3     missing"
  [[ $output != *"n2                   worker"* ]]
  cluster up
  local pid
  read -r pid _ <"$(place_of g)/run/gateway.pid"
  kill -s KILL "$pid"
  cluster status
  [ "$status" -eq 1 ]
  says "g                    gateway      dead"
  rm "$(place_of g)"/run/gateway.*
  cluster status g --json
  [ "$status" -eq 1 ]
  [[ $output == *'"ok": false'*'{"name": "gateway", "state": "missing", "pid": 0}'* ]]
  cluster status n1
  [ "$status" -eq 0 ]
}

@test "ports and keys don't change under what runs" {
  hosts_are 'b role=broker' 'n1'
  cluster up
  local before
  before=$(cat "$state/settings.json" "$homes"/*/.millrace/lab/*/run/*.command)
  for arguments in "--port-base 6000" "--insecure" "--insecure --port-base 6000"; do
    # shellcheck disable=SC2086
    cluster up $arguments
    [ "$status" -eq 64 ]
    says "broker of b runs with"
    says "down"
    [ "$(cat "$state/settings.json" "$homes"/*/.millrace/lab/*/run/*.command)" = "$before" ]
  done
  cluster up --port-base 5570 --no-insecure
  [ "$status" -eq 0 ]
  cluster down
  cluster up --port-base 6000 --insecure
  [ "$status" -eq 0 ]
  cluster up --no-insecure
  [ "$status" -eq 64 ]
  says "without keys"
}

@test "a lost state directory makes no new keys for what runs, and down needs none" {
  hosts_are 'b role=broker' 'n1'
  cluster up
  [ "$status" -eq 0 ]
  mv "$state" "$state.lost"
  cluster up
  [ "$status" -eq 78 ]
  says "broker of b runs with keys that are not in $state"
  says "down"
  [ ! -e "$state/keys" ]
  [ ! -e "$state/settings.json" ]
  cluster up --insecure
  [ "$status" -eq 1 ]
  says "b: broker runs with keys"
  rm -rf "$state"
  # Keys made elsewhere, while nothing was running or could be reached.
  hosts_are 'b2 role=broker'
  cluster up
  cluster down
  echo "public of another" >"$state/keys/broker.pub"
  hosts_are 'b role=broker' 'n1' 'n2'
  for command in up "scale 3" rolling-restart; do
    # shellcheck disable=SC2086
    cluster $command
    [ "$status" -eq 1 ]
    says "b: broker runs with other keys"
    says "n1: worker-1 runs with other keys"
  done
  grep -q "public of broker" "$(place_of b)/etc/broker.pub"
  grep -q -- "--name host-n1" "$(place_of b)/etc/allow"
  fails grep -q -- "--name host-n2" "$(place_of b)/etc/allow"
  rm -rf "$state"
  cluster down
  [ "$status" -eq 0 ]
  cluster up
  [ "$status" -eq 0 ]
}

@test "a first up that is interrupted is remembered" {
  hosts_are 'b role=broker' 'n1'
  program millrace-worker '[[ $1 == --version ]] || exec sleep 300' # never registers
  setsid "$tree/scripts/cluster.sh" -f "$hosts" --dir "$state" up --workers 2 --queue a=echo >/dev/null 2>&1 3>&- &
  soon test -e "$(place_of n1)/run/worker-2.pid"
  kill -s KILL -- "-$!"
  cluster status
  [ "$status" -ne 69 ]
  cluster up --dry-run
  says "ensure worker-2 "
  says "--queue a=echo"
}

@test "why a host failed is said, and whether it was reached" {
  hosts_are 'b role=broker' 'full' 'locked' 'file' 'odd'
  mkdir -p "$homes/file" "$homes/odd"
  touch "$homes/file/.millrace"
  mkdir -p "$homes/odd/.millrace/lab"
  ln -s /proc/nowhere "$homes/odd/.millrace/lab/odd"
  cluster up
  [ "$status" -eq 1 ]
  says "full: tar: x: Cannot write: No space left on device"
  says "locked: can't be reached: me@locked: Permission denied (publickey,password). (it does not accept your ssh key"
  says "file: can't create $homes/file/.millrace/lab/file: Not a directory"
  says "odd: can't create $(place_of odd): "
  cluster up --json
  [[ $output == *'"unreachable": ["locked"]'* ]]
  [[ $output != *"full: can't be reached"* ]]
}

@test "a configuration that has changed is not in force until rolling-restart, which is said" {
  hosts_are 'b role=broker' 'n1'
  echo 'lease = "2s"' >"$BATS_TEST_TMPDIR/broker.toml"
  cluster up --config "broker=$BATS_TEST_TMPDIR/broker.toml"
  cluster up
  [[ $output != *"still runs"* ]]
  hosts_are 'b role=broker' 'n1' 'n2' # more keys
  cluster up
  [[ $output != *"still runs"* ]]
  echo 'lease = "3s"' >"$BATS_TEST_TMPDIR/broker.toml"
  cluster up
  [ "$status" -eq 0 ]
  says "b: broker still runs its old version or settings; rolling-restart applies the new ones"
  [[ $output != *"worker-1 still runs"* ]]
  cluster rolling-restart
  cluster up
  [[ $output != *"still runs"* ]]
}

@test "a directory or file that can't be used is said in a line" {
  hosts_are 'b role=broker'
  touch "$BATS_TEST_TMPDIR/file"
  for directory in "$BATS_TEST_TMPDIR/file" "$BATS_TEST_TMPDIR/file/below" /proc/nowhere; do
    run "$tree/scripts/cluster.sh" -f "$hosts" --dir "$directory" up
    [ "$status" -eq 73 ]
    says "cluster.sh: can't write to $directory: "
    says "choose another directory with --dir"
    [ "$(wc -l <<<"$output")" -eq 1 ]
  done
  mkdir "$state"
  for words in '' '{' '[]' '{"workers": "many"}' '{"colour": 1}'; do
    echo "$words" >"$state/settings.json"
    cluster up
    [ "$status" -eq 65 ]
    says "$state/settings.json is damaged; remove it"
  done
  rm "$state/settings.json"
  for arguments in --ssh=ssh\ \' --ssh= --dir= --remote-dir=; do
    run "$tree/scripts/cluster.sh" -f "$hosts" up "$arguments"
    [ "$status" -eq 64 ]
    says "cluster.sh: ${arguments%%=*}"
  done
  not_called ssh
}

@test "workers that no host may run are an error" {
  hosts_are 'b role=broker' 'g role=broker'
  cluster up --workers 2
  [ "$status" -eq 65 ]
  says "no host in the hosts file has role=worker"
  [ ! -e "$state/settings.json" ]
  cluster up
  [ "$status" -eq 0 ]
  cluster scale 2
  [ "$status" -eq 65 ]
  cluster scale 0
  [ "$status" -eq 0 ]
  hosts_are 'b role=broker' 'n1'
  cluster up --workers 1
  cluster drain
  cluster scale 2
  [ "$status" -eq 64 ]
  says "are drained"
  cluster up
  [ "$status" -eq 0 ]
  says "1 worker;"
}

@test "--dry-run with --json is one object" {
  hosts_are 'b role=broker' 'n1'
  cluster up --dry-run --json
  [ "$status" -eq 0 ]
  /usr/bin/python3 -c 'import json, sys
plan = json.loads(sys.argv[1])
assert plan["dry_run"] and plan["command"] == "up", plan
step = next(step for step in plan["steps"] if any(call[:2] == ["ensure", "worker-1"] for call in step["calls"]))
assert step["host"] == "n1" and step["command"][0] == "ssh", step' "$output"
  not_called ssh
}

@test "on a full disk nothing is started that nobody would know of, and the host fails" {
  hosts_are 'b role=broker' 'n1'
  local run full
  run=$(place_of n1)/run
  mkdir -p "$run"
  for full in command pid; do
    ln -s /dev/full "$run/worker-1.$full.new"
    [[ $full == pid ]] || ln -s /dev/full "$run/worker-1.$full"
    cluster up
    [ "$status" -eq 1 ]
    says "n1: can't start worker-1: can't write to $run: No space left on device"
    [ ! -e "$homes/registered/b/n1.worker-1" ]
    [ ! -e "$run/worker-1.pid" ]
    rm -f "$run"/*
  done
  cluster up
  [ "$status" -eq 0 ]
}

@test "a pid file that says nothing is an error with its name, and no second process is started" {
  hosts_are 'b role=broker' 'n[1-2]'
  cluster up --workers 3
  local file pid
  file=$(place_of n1)/run/worker-1.pid
  read -r pid _ <"$file"
  for words in '' garbage "$pid" "$pid x" '12x 7'; do
    echo "$words" >"$file"
    for command in up status down; do
      cluster "$command"
      [ "$status" -eq 1 ]
      says "n1: $file does not contain the process ID of worker-1"
      runs "$pid"
    done
    [ "$(cat "$file")" = "$words" ]
    [ ! -e "$(place_of n1)/run/worker-2.pid" ] # down has stopped the others
    [ ! -e "$(place_of n2)/run/worker-1.pid" ]
  done
  kill -s KILL "$pid"
}

@test "scale adds and takes away, drain keeps a host free until up" {
  hosts_are 'b role=broker' 'n1 labels=big' 'n2'
  cluster up
  cluster scale 5
  [ "$status" -eq 0 ]
  [ -e "$(place_of n1)/run/worker-3.pid" ]
  [ -e "$(place_of n2)/run/worker-2.pid" ]
  cluster scale 1
  [ -e "$(place_of n1)/run/worker-1.pid" ]
  [ ! -e "$(place_of n1)/run/worker-2.pid" ]
  [ ! -e "$(place_of n2)/run/worker-1.pid" ]
  cluster drain label=big
  [ ! -e "$(place_of n1)/run/worker-1.pid" ]
  cluster scale 2
  [ ! -e "$(place_of n1)/run/worker-1.pid" ]
  [ -e "$(place_of n2)/run/worker-2.pid" ]
  cluster up
  [ -e "$(place_of n1)/run/worker-1.pid" ]
}

@test "a worker that an interrupted drain was stopping is waited for, and restarted once" {
  busy_worker
  hosts_are 'b role=broker' 'n1'
  cluster up
  [ "$status" -eq 0 ]
  local drain
  export draining
  read -r draining _ <"$(place_of n1)/run/worker-1.pid"
  setsid "$tree/scripts/cluster.sh" -f "$hosts" --dir "$state" drain n1 >/dev/null 2>&1 3>&- &
  drain=$!
  soon test -s "$homes/told"
  soon test -e "$(place_of n1)/run/worker-1.stopping"
  kill -s KILL -- "-$drain" # with the ssh and what it runs
  rm -rf "$homes/busy"/*
  cluster status
  says "worker-1     stopping"
  # It ends when the command waits for it.
  { soon grep -q "is stopping" "$homes/answers" && touch "$homes/finished.$draining"; } 3>&- &
  cluster up
  [ "$status" -eq 0 ]
  says "n1: worker-1 is stopping; it will be restarted when it has stopped"
  [ "$(cat "$homes/told")" = TERM ]
  local pid
  read -r pid _ <"$(place_of n1)/run/worker-1.pid"
  [ "$pid" != "$draining" ]
  runs "$pid"
  cluster status
  says "worker-1     running"
  # One that has ended as it was told has not died.
  touch "$(place_of n1)/run/worker-1.stopping"
  kill -s KILL "$pid"
  cluster status
  [[ $output != *"dead"* ]]
  says "worker-1     missing"
}

# How many processes have the lock of a host open.
openers() { find /proc/[0-9]*/fd -lname "$(place_of "$1")/run/lock" 2>/dev/null | cut -d / -f 3 | sort -u | wc -l; }

@test "what a drain that was cut off leaves behind does not touch what up starts after it" {
  busy_worker
  hosts_are 'b role=broker' 'n1'
  cluster up
  local pid left up file
  file=$(place_of n1)/run/worker-1.pid
  read -r pid _ <"$file"
  { cat "$tree/scripts/cluster/host.py" &&
    echo "main({'directory': '$(place_of n1)', 'cluster': 'lab', 'calls': [['stop', 1, 'worker-1']]})"; } |
    /usr/bin/python3 -I - >/dev/null 2>&1 3>&- &
  left=$!
  soon test -e "$(place_of n1)/run/worker-1.stopping"
  kill -s STOP "$left"
  touch "$homes/finished.$pid"
  soon fails runs "$pid"
  "$tree/scripts/cluster.sh" -f "$hosts" --dir "$state" up >/dev/null 2>&1 3>&- &
  up=$!
  waits_or_has_started() { (($(openers n1) > 1)) || { [[ -e $file ]] && [[ $(cut -d ' ' -f 1 "$file") != "$pid" ]]; }; }
  soon waits_or_has_started
  kill -s CONT "$left"
  wait "$left"
  wait "$up"
  read -r pid _ <"$file"
  runs "$pid"
  touch "$homes/finished.$pid"
}

@test "a host that can't be reached is named, the others are done, exit 1" {
  hosts_are 'b role=broker' 'n1' 'gone1' 'n2'
  cluster up
  [ "$status" -eq 1 ]
  says "gone1: can't be reached"
  says "no sshd is listening"
  [ -e "$(place_of n2)/run/worker-1.pid" ]
  cluster up --json
  [ "$status" -eq 1 ]
  [[ $output == *'"unreachable": ["gone1"]'* ]]
  cluster down
  [ "$status" -eq 1 ]
  [ ! -e "$(place_of n2)/run/worker-1.pid" ]
}

@test "at most eight connections at a time" {
  hosts_are 'b role=broker'
  cluster up
  hosts_are 'b role=broker' 'n[01-20]'
  slow=1 cluster status # each far longer than the random wait before it
  [ "$status" -eq 1 ]   # their workers are missing
  [ "$(sort -n "$homes/most" | tail -n 1)" -eq 8 ]
}

@test "a host gets its own key and not the broker's, readable for nobody else" {
  hosts_are 'b role=broker' 'n1'
  cluster up
  grep -q "secret of host-n1" "$(place_of n1)/etc/host.key"
  grep -q "public of broker" "$(place_of n1)/etc/broker.pub"
  [ ! -e "$(place_of n1)/etc/broker.key" ]
  grep -q "secret of broker" "$(place_of b)/etc/broker.key"
  grep -q -- "--name host-n1" "$(place_of b)/etc/allow"
  for path in "$(place_of n1)/etc/host.key" "$(place_of b)/etc/broker.key" "$(place_of b)/etc/allow" "$state/keys/client"; do
    [ "$(stat -c %a "$path")" = 600 ]
  done
  for path in "$(place_of n1)" "$(place_of n1)/etc" "$state/keys"; do
    [ "$(stat -c %a "$path")" = 700 ]
  done
  cluster up
  [ "$(grep -c . "$state/keys/allow")" -eq 3 ] # made once: client, b, n1
}

@test "programs that don't run there are a host's failure, with the reason" {
  hosts_are 'b role=broker' 'n1'
  program millrace-worker 'echo "libzmq.so.5: cannot open shared object file" >&2; exit 127'
  cluster up
  [ "$status" -eq 1 ]
  says "libzmq.so.5"
  says "apt-get install"
}

@test "a program that ends at once is a host's failure, with its last log lines, and stops a rolling restart" {
  hosts_are 'b role=broker' 'n[1-3]'
  cluster up
  [ "$status" -eq 0 ]
  local before
  before=$(cat "$(place_of n2)/run/worker-1.pid" "$(place_of n3)/run/worker-1.pid" "$(place_of b)/run/broker.pid")
  program millrace-worker '[[ $1 == --version ]] || { echo "unknown handler" >&2; exit 64; }'
  cluster rolling-restart
  [ "$status" -eq 1 ]
  says "worker-1 exited immediately; its last log lines: unknown handler"
  says "the others were not restarted"
  [ "$(cat "$(place_of n2)/run/worker-1.pid" "$(place_of n3)/run/worker-1.pid" "$(place_of b)/run/broker.pid")" = "$before" ]
  cluster up
  [ "$status" -eq 1 ]
  says "n1: worker-1 exited immediately"
}

@test "systemd takes care of the programs where it runs" {
  export MILLRACE_SYSTEMD="$BATS_TEST_TMPDIR" # stands for /run/systemd/system
  stand_in loginctl 'echo yes' # for one who is not root
  stand_in systemd-run 'sleep 300 >/dev/null 2>&1 & echo $! >"$homes/active"'
  stand_in systemctl '[[ $1 != --user ]] || shift
    case $1 in
      show) cat "$homes/active" 2>/dev/null || echo 0 ;;
      stop) kill "$(cat "$homes/active")"; rm "$homes/active" ;;
    esac'
  hosts_are 'b role=broker'
  cluster up
  [ "$status" -eq 0 ]
  called "--quiet --collect --unit=millrace-lab-broker.service"
  called "Restart=on-failure"
  cluster down
  [ "$status" -eq 0 ]
  called "stop --no-block millrace-lab-broker.service"
}

@test "rolling-restart renews every program, workers first" {
  hosts_are 'b role=broker' 'n[1-2]'
  cluster up
  local before
  before=$(cut -d' ' -f1 "$homes"/*/.millrace/lab/*/run/*.pid)
  cluster rolling-restart
  [ "$status" -eq 0 ]
  for pid in $before; do
    fails grep -qw "$pid" "$homes"/*/.millrace/lab/*/run/*.pid
  done
  cluster logs n1 --lines 3
  [ "$status" -eq 0 ]
}

@test "the status of several brokers has their sums, and names one that does not answer" {
  hosts_are 'b[1-3] role=broker' 'n1'
  cluster up
  [ "$status" -eq 0 ]
  cluster status
  [ "$status" -eq 0 ]
  says "all                  3 of 3 brokers answer: summed, 1 worker, jobs: 9 ready"
  cluster status b2
  [ "$status" -eq 0 ]
  [[ $output != *" brokers answer"* ]]
  cluster status n1 # nobody asked a broker
  [ "$status" -eq 0 ]
  local pid
  read -r pid _ <"$(place_of b2)/run/broker.pid"
  kill -s KILL "$pid"
  cluster status
  [ "$status" -eq 1 ]
  says "b2                   the broker does not answer"
  says "2 of 3 brokers answer: summed, 1 worker, jobs: 6 ready"
  cluster status --json
  [[ $output == *'"cluster": {"answering": 2, "asked": 3, "state": "summed", "jobs": {"ready": 6}'* ]]
  [[ $output == *'"name": "n1.worker-1", "brokers": 2'* ]]
  cluster down
  cluster status
  [ "$status" -eq 69 ]
}

@test "a broker that joins is not waited for by workers that don't know of it; rolling-restart tells them" {
  hosts_are 'b1 role=broker' 'n[1-2]'
  cluster up
  hosts_are 'b[1-2] role=broker' 'n[1-2]'
  cluster rolling-restart # the new one does not run yet
  [ "$status" -eq 1 ]
  says "no broker is running on this host; start it with cluster.sh up"
  hosts_are 'b[1-3] role=broker' 'n[1-2]'
  cluster up
  [ "$status" -eq 0 ]
  says "n2: worker-1 still runs its old version or settings"
  [ ! -e "$homes/registered/b3" ]
  cluster rolling-restart
  [ "$status" -eq 0 ]
  [ "$(ls "$homes/registered/b3")" = "$(printf '%s\n' n1.worker-1 n2.worker-1)" ]
}

@test "brokers are restarted one after the other, each once the one before has its workers again" {
  hosts_are 'b[1-3] role=broker' 'n1'
  cluster rolling-restart --dry-run
  [ "$status" -eq 0 ]
  local steps
  steps=$(grep -oE '^b[1-3]: |stop 40 broker|ready .*|await_workers .* n1.worker-1$' <<<"$output" | tail -n 18 | head -n 12)
  [ "$steps" = "$(for broker in b1 b2 b3; do
    printf '%s\n' "$broker: " "stop 40 broker" "ready 127.0.0.1:5580 60" "await_workers 127.0.0.1:5580 30 n1.worker-1"
  done)" ]
  cluster up
  local before
  before=$(cat "$(place_of b3)/run/broker.pid")
  program millrace-broker 'case $1 in serve) [[ $PWD == */b2 ]] && exit 65; exec sleep 300 ;; status) '"$(
    sed -n '/status)/,/esac/p' "$MILLRACE_BIN/millrace-broker" | sed '1d;$d')"' esac'
  cluster rolling-restart
  [ "$status" -eq 1 ]
  says "b2: broker exited immediately"
  says "the others were not restarted"
  [ "$(cat "$(place_of b3)/run/broker.pid")" = "$before" ]
}

@test "a gateway is waited for until it takes jobs" {
  hosts_are 'b role=broker' 'g role=gateway'
  cluster up
  [ "$status" -eq 0 ]
  program millrace-producer 'sleep 1; echo "no broker" >&2; exit 69'
  cluster rolling-restart
  [ "$status" -eq 1 ]
  says "the gateway is not ready; its last log lines: no broker"
}

@test "a gateway whose host has another role now is stopped" {
  hosts_are 'b role=broker' 'g role=gateway'
  cluster up
  [ -e "$(place_of g)/run/gateway.pid" ]
  hosts_are 'b role=broker' 'g'
  cluster up
  [ "$status" -eq 0 ]
  [ ! -e "$(place_of g)/run/gateway.pid" ]
  [ -e "$(place_of g)/run/worker-1.pid" ]
}
