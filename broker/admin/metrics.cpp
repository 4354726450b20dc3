#include "broker/admin/metrics.h"

#include "common/metrics/metrics.h"

namespace millrace::admin {
namespace {

void add_broker(const Status& status, Exposition& out) {
  out.gauge("build_info", "Always 1; the labels tell which broker this is.");
  out.sample({{"version", status.version}, {"broker", status.broker}}, 1);
  out.gauge("state", "1 for the state that the broker is in.");
  for (std::string_view state : {"recovering", "serving", "draining"}) {
    out.sample({{"state", state}}, int{status.state == state});
  }
  out.gauge("durable", "1 if an accepted job is synced to disk before it is confirmed.");
  out.sample({}, int{status.durability == "confirmed"});
  out.gauge("incarnation", "How often this broker has been started.");
  out.sample({}, status.incarnation);
  out.gauge("uptime_seconds", "Time since this start.");
  out.sample({}, static_cast<double>(status.uptime_ms) / 1e3);
  out.gauge("producers", "Producers connected.");
  out.sample({}, status.producers);
  out.gauge("authenticated", "1 if only clients whose keys are on the allow-list are accepted.");
  out.sample({}, int{status.security == "curve"});
  out.gauge("keys", "Keys on the allow-list.");
  out.sample({}, status.keys);
  out.counter("refused_handshakes_total", "Connections that were rejected, since this start.");
  out.sample({}, status.refused_handshakes);
  out.gauge("connections", "TCP connections of producers and workers.");
  out.sample({}, status.connections.open);
  out.gauge("connections_limit", "At this many, connections are closed.");
  out.sample({}, status.connections.limit);
  out.gauge("connections_unread_bytes", "Unfinished and unread messages of all connections.");
  out.sample({}, status.connections.unread_bytes);
  out.counter("connections_closed_total", "Connections that the broker closed, by reason.");
  for (const auto& [reason, count] : status.connections.closed)
    out.sample({{"reason", reason}}, count);
  out.counter("log_lines_dropped_total", "Log lines that nobody read in time, since this start.");
  out.sample({}, status.log_lines_dropped);
  out.gauge("resident_memory_bytes", "Memory of the process that is in RAM.");
  out.sample({}, status.memory.rss);
  out.gauge("payload_memory_bytes", "Payloads of jobs that are held in memory.");
  out.sample({}, status.memory.payload_bytes);
  out.gauge("held", "What the broker holds, by kind: jobs, attempts, history, producers, ...");
  for (const HeldStatus& held : status.held) out.sample({{"kind", held.kind}}, held.count);
  out.gauge("held_bytes", "Memory that it takes, by kind.");
  for (const HeldStatus& held : status.held) out.sample({{"kind", held.kind}}, held.bytes);
  out.gauge("output_bytes", "Messages that wait for commits and for slow readers.");
  out.sample({}, status.memory.output);
  out.counter("slow_readers_total",
              "Peers disconnected because they did not read, since this start.");
  out.sample({}, status.slow_readers);
}

void add_jobs(const JobCounts& jobs, const Totals& totals, Exposition& out) {
  out.gauge("jobs", "Jobs by state.");
  out.sample({{"state", "scheduled"}}, jobs.scheduled);
  out.sample({{"state", "ready"}}, jobs.ready);
  out.sample({{"state", "leased"}}, jobs.leased);
  out.sample({{"state", "retry_wait"}}, jobs.retry_wait);
  out.sample({{"state", "done"}}, jobs.done);
  out.sample({{"state", "dead"}}, jobs.dead);
  out.sample({{"state", "cancelled"}}, jobs.cancelled);
  out.sample({{"state", "expired"}}, jobs.expired);

  const struct {
    const char* name;
    uint64_t value;
    const char* help;
  } counters[] = {
      {"jobs_accepted_total", totals.accepted, "Jobs written to the journal."},
      {"jobs_done_total", totals.done, "Jobs that ended done."},
      {"jobs_dead_total", totals.dead, "Jobs that used up their attempts."},
      {"attempts_total", totals.attempts, "Leases granted to workers."},
      {"crashes_total", totals.crashes, "Attempts whose worker vanished."},
      {"failures_total", totals.failures, "Attempts that the handler reported as failed."},
      {"returned_total", totals.returned, "Jobs that workers returned or lost."},
      {"submissions_known_total", totals.duplicates_known,
       "Submissions sent again that had been accepted before."},
      {"stale_completions_total", totals.stale, "Completions by a lease that had ended."},
      {"submissions_rejected_total", totals.rejected, "Submissions that were not stored."},
  };
  for (const auto& counter : counters) {
    out.counter(counter.name, counter.help);
    out.sample({}, counter.value);
  }
}

void add_queues(const Status& status, Exposition& out) {
  out.gauge("queues", "Number of queues.");
  out.sample({}, status.queues.size() + status.other_queues.queues);
  out.gauge("other_queues_jobs", "Jobs of the queues that have no series of their own, by state.");
  out.sample({{"state", "ready"}}, status.other_queues.ready);
  out.sample({{"state", "leased"}}, status.other_queues.leased);
  out.sample({{"state", "retry_wait"}}, status.other_queues.retry_wait);
  out.sample({{"state", "dead"}}, status.other_queues.dead);
  out.gauge("queue_jobs", "Jobs of a queue by state.");
  for (const QueueStatus& queue : status.queues) {
    out.sample({{"queue", queue.name}, {"state", "ready"}}, queue.ready);
    out.sample({{"queue", queue.name}, {"state", "leased"}}, queue.leased);
    out.sample({{"queue", queue.name}, {"state", "retry_wait"}}, queue.retry_wait);
    out.sample({{"queue", queue.name}, {"state", "dead"}}, queue.dead);
  }
  out.counter("queue_done_total", "Jobs of a queue that ended done.");
  for (const QueueStatus& queue : status.queues) out.sample({{"queue", queue.name}}, queue.done);
  out.gauge("queue_workers", "Workers that subscribe to a queue.");
  for (const QueueStatus& queue : status.queues) out.sample({{"queue", queue.name}}, queue.workers);
}

template <typename Value>
void sample_workers(const Status& status, Exposition& out, Value&& value) {
  for (const WorkerStatus& worker : status.workers) {
    out.sample({{"worker", worker.name}, {"id", worker.id}}, value(worker));
  }
}

void add_workers(const Status& status, Exposition& out) {
  using Worker = const WorkerStatus&;
  out.gauge("worker_connected",
            "1 if the worker has a session, 0 if the broker waits for its return.");
  sample_workers(status, out, [](Worker worker) { return int{worker.connected}; });
  out.gauge("worker_threads", "Threads of the worker's pool.");
  sample_workers(status, out, [](Worker worker) { return worker.threads; });
  out.gauge("worker_credit", "Jobs that the worker accepts at a time.");
  sample_workers(status, out, [](Worker worker) { return worker.credit; });
  out.gauge("worker_in_flight", "Jobs that the worker holds.");
  sample_workers(status, out, [](Worker worker) { return worker.in_flight; });
  out.counter("worker_done_total", "Jobs that the worker has done in this session.");
  sample_workers(status, out, [](Worker worker) { return worker.done; });
  out.counter("worker_failed_total", "Attempts that failed on the worker in this session.");
  sample_workers(status, out, [](Worker worker) { return worker.failed; });
  out.gauge("worker_silence_seconds", "Time since the last message of the worker.");
  sample_workers(status, out, [](Worker worker) { return worker.seconds_since_heard; });
}

void add_journal(const JournalStatus& journal, Exposition& out) {
  out.gauge("journal_segments", "Segment files of the journal.");
  out.sample({}, journal.segments);
  out.gauge("journal_size_bytes", "Space that the journal takes.");
  out.sample({}, journal.bytes);
  out.gauge("journal_durable_batch", "Sequence of the last batch that is on disk.");
  out.sample({}, journal.durable_batch);
  out.counter("journal_commits_total", "Batches committed.");
  out.sample({}, journal.commits);
  out.gauge("journal_last_commit_seconds", "Write and sync of the last batch.");
  out.sample({}, static_cast<double>(journal.last_commit_us) / 1e6);
  out.gauge("journal_disk_free_bytes", "Free space on the journal's disk.");
  out.sample({}, journal.disk_free);
  out.gauge("journal_loss_window_seconds",
            "What a power cut would lose now: all that was accepted in this time.");
  out.sample({}, static_cast<double>(journal.loss_window_ms) / 1e3);
  out.gauge("journal_stalled", "1 while a commit waits for space.");
  out.sample({}, int{journal.stalled});
}

}  // namespace

std::string metrics_text(const Status& status) {
  Exposition out;
  add_broker(status, out);
  add_jobs(status.jobs, status.totals, out);
  add_queues(status, out);
  add_workers(status, out);
  add_journal(status.journal, out);
  return out.take();
}

}  // namespace millrace::admin
