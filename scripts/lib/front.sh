# shellcheck shell=bash disable=SC2154
# What takes HTTP in front of the work: the gateway of a cluster, or a server that works without a
# queue. Needs common.sh, processes.sh, cluster.sh, and $handler, what the work is.

readonly kFrontQueue=overload

front_port() { echo $((port_base + 12)); }
front_address() { echo "127.0.0.1:$(front_port)"; }
# The path of both, where a job is POSTed.
front_target() { echo "/v1/queues/$kFrontQueue/jobs"; }

check_front_port() {
  port_in_use "$(front_port)" || return 0
  fail 73 "port $(front_port) of 127.0.0.1 is in use by another program; choose another --port-base"
}

# is_answering NAME PATH: it answers with 200 there, or has ended.
is_answering() {
  curl -fsS --max-time 5 "http://$(front_address)$2" >/dev/null 2>&1 || is_gone "$1"
}

# wait_front NAME PATH
wait_front() {
  until_true "$kReadySeconds" is_answering "$1" "$2" && is_running "$1" && return 0
  tail -n 5 "$run_dir/$1.log" >&2
  fail 69 "the $1 does not answer; its last words stand above, all of them in $run_dir/$1.log"
}

start_direct() {
  check_front_port
  spawn direct "$bin/millrace-worker" direct --http "$(front_address)" --handler "$handler"
  wait_front direct /healthz
}

# start_queue POOL: a broker on an empty journal, one worker and a gateway.
start_queue() {
  rm -rf "$run_dir/data"
  start_broker
  spawn worker-1 "$bin/millrace-worker" run --broker "127.0.0.1:$((port_base + 1))" --name worker-1 \
    --pool "$1" --queue "$kFrontQueue=$handler"
  wait_workers 1
  check_front_port
  spawn gateway "$bin/millrace-producer" gateway --http "$(front_address)" --broker "127.0.0.1:$port_base"
  wait_front gateway /readyz
}

stop_front() {
  stop_process direct "$kDrainSeconds"
  stop_process gateway "$kDrainSeconds"
  stop_cluster
}
