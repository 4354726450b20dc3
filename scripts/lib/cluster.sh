# shellcheck shell=bash disable=SC2154,SC2317
# One broker and its workers on this machine, as functions. Needs common.sh and processes.sh, and
# these variables: $run_dir (logs, pids, data), $bin (the programs), $port_base, $queues (an array of
# NAME=HANDLER), $pool.

readonly kReadySeconds=60
readonly kDrainSeconds=30

# Ports: the base, one above, and ten above.
http_port() { echo $((port_base + 10)); }

port_in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Says which of the broker's ports another program has, and where there is room.
check_ports() {
  local port free=$((port_base + 100))
  for port in "$port_base" $((port_base + 1)) "$(http_port)"; do
    port_in_use "$port" || continue
    while port_in_use "$free" || port_in_use $((free + 1)) || port_in_use $((free + 10)); do
      free=$((free + 100))
      ((free < 32000)) || free=10000
    done
    fail 73 "port $port of 127.0.0.1 is in use by another program; choose other ports, such as" \
      "--port-base $free"
  done
}

http_get() { curl -fsS --max-time 5 "http://127.0.0.1:$(http_port)$1" 2>/dev/null; }

start_broker() {
  is_running broker && return 0
  check_ports
  spawn_broker
  wait_ready
}

spawn_broker() {
  spawn broker "$bin/millrace-broker" serve --frontend "tcp://127.0.0.1:$port_base" \
    --backend "tcp://127.0.0.1:$((port_base + 1))" --http "127.0.0.1:$(http_port)" \
    --data "$run_dir/data" "${broker_flags[@]}"
}

# The broker serves, or has ended: then its last words are shown.
is_settled() { http_get /readyz >/dev/null || is_gone broker; }

wait_ready() {
  until_true "$kReadySeconds" is_settled || true
  http_get /readyz >/dev/null && return 0
  tail -n 5 "$run_dir/broker.log" >&2
  fail 69 "the broker is not ready; its last words stand above, all of them in $run_dir/broker.log"
}

# start_worker NAME [HANDLER FLAGS…]
start_worker() {
  local name=$1 queue flags=()
  is_running "$name" && return 0
  for queue in "${queues[@]}"; do flags+=(--queue "$queue"); done
  spawn "$name" "$bin/millrace-worker" run --broker "127.0.0.1:$((port_base + 1))" --pool "$pool" \
    --drain-timeout "${kDrainSeconds}s" --name "$name" "${flags[@]}"
}

# The names of the workers that run, oldest first.
running_workers() {
  local file name
  for file in "$run_dir"/worker-*.pid; do
    name=${file##*/}
    name=${name%.pid}
    if is_running "$name"; then echo "$name"; fi
  done | sort -t- -k2n
}

# How many the broker knows; 0 when it does not answer.
connected_workers() {
  local status
  status=$(http_get /v1/workers) || status=
  { grep -oE '"connected": *true' <<<"$status" || true; } | wc -l
}

# wait_workers NUMBER: so many are registered.
wait_workers() {
  has_workers() { (($(connected_workers) >= $1)); }
  until_true "$kReadySeconds" has_workers "$1" && return 0
  tail -qn 3 "$run_dir"/worker-*.log >&2
  fail 69 "only $(connected_workers) of $1 workers have registered after" \
    "$kReadySeconds s; their last words stand above, all of them in $run_dir/worker-*.log"
}

# Drains the workers, all at once, then stops the broker.
stop_cluster() {
  local name names
  mapfile -t names < <(running_workers)
  for name in "${names[@]}"; do send_signal TERM "$name"; done
  for name in "${names[@]}"; do wait_stopped "$name"; done
  stop_process broker "$kDrainSeconds"
}

# As stop_process, without a second SIGTERM: that would end a worker's drain.
wait_stopped() {
  if ! until_true $((kDrainSeconds + 10)) is_gone "$1"; then
    note "$1 has not drained within $((kDrainSeconds + 10)) s; it gets SIGKILL"
    send_signal KILL "$1"
  fi
  rm -f "$run_dir/$1.pid"
}

kill_cluster() {
  local file
  for file in "$run_dir"/*.pid; do
    [[ -e $file ]] || continue
    file=${file##*/}
    kill_process "${file%.pid}"
  done
}
