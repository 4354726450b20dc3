# shellcheck shell=bash disable=SC2154
# bench.sh's long part: what a backlog costs, in memory, at the start and while it is drained. Needs
# what bench.sh has, and $backlog, the number of jobs. Its figures go to $run_dir/figures.

readonly kShallow=100000     # jobs: these fit in the memory for payloads
readonly kShallowRounds=10
readonly kBudgetMib=64       # --memory

now_us() { echo "${EPOCHREALTIME/[.,]/}"; }

# The queue stands still until it is told to go on, so that filling and draining are apart. There is
# one as soon as it has had a job.
begin_queue() { load first --rate max --count 1 --no-wait; }
pause_queue() {
  "$bin/millrace-broker" queue pause bench --http "127.0.0.1:$(http_port)" >/dev/null
}

# drain NAME JOBS: resumes, and waits until so many are done in all.
drain() {
  figure "$1" "$("$kPython" "$root/scripts/lib/drain.py" "127.0.0.1:$(http_port)" bench "$2")" ||
    fail 1 "the backlog was not drained"
}

# start_timed NAME: from the start to the first 200 of /readyz.
start_timed() {
  local begin
  begin=$(now_us)
  spawn_broker
  until http_get /readyz >/dev/null; do
    if is_gone broker; then wait_ready; fi
    sleep 0.01
  done
  figure "$1" $((($(now_us) - begin) / 1000))
}

read_journal() { figure "$1" "$("$kPython" "$root/scripts/lib/journal_files.py" read "$run_dir/data")"; }
forget_journal() { "$kPython" "$root/scripts/lib/journal_files.py" forget "$run_dir/data"; }

measure_shallow() {
  local round
  note "draining $kShallow jobs, $kShallowRounds times"
  fresh_cluster 1
  begin_queue
  for ((round = 1; round <= kShallowRounds; round++)); do
    pause_queue
    load shallow --rate max --count "$kShallow" --no-wait
    drain drain_shallow_ms $((1 + round * kShallow))
  done
}

fill() {
  local step queued=1 steps=($((backlog / 10)) $((backlog / 2)) "$backlog")
  fresh_cluster 0
  figure backlog_rss_kib_0 "$(resident_kib broker)"
  begin_queue
  pause_queue
  for step in "${steps[@]}"; do
    note "a backlog of $step"
    load "fill-$step" --rate max --count $((step - queued)) --no-wait
    queued=$step
    figure "backlog_rss_kib_$step" "$(resident_kib broker)"
  done
}

# Each start is on the whole journal; the first has it on the disk only.
restart() {
  note "kill -9 and start, from the disk and from the page cache"
  kill_process broker
  forget_journal
  read_journal plain_cold
  forget_journal
  start_timed start_cold_ms
  kill_process broker
  read_journal plain_warm
  start_timed start_killed_ms
  figure start_rss_kib "$(resident_kib broker)"
  note "a clean stop and start"
  stop_process broker "$kDrainSeconds"
  start_timed start_stopped_ms
  grep -q "snapshot read" "$run_dir/broker.log" && figure start_by_snapshot 1
}

measure_backlog() {
  # For start_broker.
  # shellcheck disable=SC2034
  local broker_flags=(--fsync always --memory "${kBudgetMib}MiB" --max-queued $((backlog * 2)))
  figure backlog_jobs "$backlog"
  figure backlog_budget_kib $((kBudgetMib * 1024))
  figure shallow_jobs "$kShallow"
  measure_shallow
  fill
  restart
  note "draining $backlog"
  start_worker worker-1
  wait_workers 1
  drain drain_deep_ms "$backlog"
  figure drained_rss_kib "$(resident_kib broker)"
  stop_cluster
}
