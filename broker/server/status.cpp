// The snapshot that the server publishes: the core's and the journal's facts under their public
// names.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "broker/server/server.h"
#include "common/os/log.h"

namespace millrace::server {
namespace {

uint64_t resident_bytes() {
  unsigned long long total = 0, resident = 0;
  FILE* file = std::fopen("/proc/self/statm", "r");
  if (!file) return 0;
  const int fields = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return fields == 2 ? resident * uint64_t(sysconf(_SC_PAGESIZE)) : 0;
}

std::string hex(BrokerId id) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", id.value);
  return text;
}

admin::WorkerStatus worker_of(const core::Core& core, const core::Session& session, Mono now) {
  admin::WorkerStatus worker{session.name, session.peer.hex()};
  const auto& all = session.subscriptions;
  worker.subscriptions = all.size();
  worker.queues = {all.begin(),
                   all.begin() + long(std::min(all.size(), admin::kMaxSubscriptionsListed))};
  worker.labels = session.labels;
  worker.threads = session.threads;
  worker.credit = session.credit;
  worker.in_flight = core.state().leases_of(session.worker);
  worker.done = session.done;
  worker.failed = session.failed;
  worker.seconds_since_heard = std::chrono::duration<double>(now - session.last_received).count();
  worker.connected = session.reachable;
  return worker;
}

// Workers that held leases when the broker started, and have not come back.
void add_missing(const core::Core& core, std::vector<admin::WorkerStatus>& workers) {
  core.state().for_each_worker([&](core::WorkerIndex index) {
    if (core.state().is_pinned(index)) return;
    admin::WorkerStatus worker{"", core.state().worker_id(index).hex()};
    worker.in_flight = core.state().leases_of(index);
    worker.connected = false;
    workers.push_back(std::move(worker));
  });
}

}  // namespace

admin::Status Server::status() const {
  const core::Core& core = loop_.core();
  const core::State& state = core.state();
  const records::Counts& counts = state.counts();
  admin::Status status;
  status.state = core.draining() ? "draining" : "serving";
  status.fsync = options_.fsync_name;
  status.durability = options_.core.durability;
  status.version = MILLRACE_VERSION;
  status.broker = hex(state.broker());
  status.incarnation = state.incarnation();
  const Mono now = Mono::clock::now();
  status.uptime_ms = uint64_t(std::chrono::duration_cast<Millis>(now - started_).count());
  status.pid = uint64_t(getpid());
  status.jobs.scheduled = state.scheduled_jobs();
  status.jobs.ready = state.ready_jobs();
  status.jobs.leased = state.leased_jobs();
  status.jobs.retry_wait = state.retry_wait_jobs();
  status.jobs.done = counts.done;
  status.jobs.dead = state.dead().size();
  status.jobs.cancelled = counts.cancelled;
  status.jobs.expired = counts.expired;
  status.totals = {counts.accepted,       counts.done,        counts.dead,
                   counts.attempts,       counts.crashes,     counts.failures,
                   core.tally().returned, core.tally().known, core.tally().stale,
                   core.tally().rejected};
  for (const auto& [id, session] : core.sessions()) {
    if (session.is_worker) {
      status.workers.push_back(worker_of(core, session, now));
    } else {
      ++status.producers;
    }
  }
  add_missing(core, status.workers);
  for (const auto& share : state.producers().largest(admin::kMaxProducersListed))
    status.largest_producers.push_back({share.producer.hex(), share.live});
  status.unfinished_of_forgotten = state.producers().live_of_forgotten();
  const core::Settings& settings = core.settings();
  status.limits = {settings.max_queued, settings.max_memory, settings.max_queued_per_producer,
                   settings.submit_rate_per_producer, settings.max_queues};
  if (journal_) {
    const journal::JournalStats stats = journal_->stats();
    status.journal = {stats.segments,      stats.bytes_on_disk,  stats.durable.value,
                      stats.commits,       stats.last_commit_us, stats.disk_free,
                      journal_->stalled(), loop_.is_disk_full()};
    if (stats.unsynced_since)
      status.journal.loss_window_ms = uint64_t(
          std::chrono::ceil<Millis>(std::max(now - *stats.unsynced_since, Mono::duration{}))
              .count());
    if (options_.journal.fsync == journal::FsyncMode::interval)
      status.journal.loss_window_max_ms = uint64_t(options_.journal.fsync_interval.count());
    if (options_.journal.fsync == journal::FsyncMode::never)
      status.journal.loss_window_max_ms.reset();
  }
  status.log_lines_dropped = log_lines_dropped();
  if (door_) {
    status.security = "curve";
    status.keys = door_->allowed()->size();
    status.refused_handshakes = door_->refused();
  }
  status.connections.limit = options_.max_connections;
  if (guard_) {
    const ConnectionGuard::Status guard = guard_->status();
    status.refused_handshakes += guard.refused_handshakes;
    status.connections.open = guard.open;
    status.connections.unread_bytes = guard.unread_bytes;
    for (size_t i = 0; i < guard.closed.size(); ++i)
      status.connections.closed.emplace_back(name_of(CloseReason(i)), guard.closed[i]);
  }
  status.memory = {resident_bytes(),
                   loop_.payloads().bytes_in_memory(),
                   state.memory_bytes(),
                   send_budget_.buffered,
                   send_budget_.transport->bytes.load(),
                   loop_.received_bytes(),
                   loop_.payloads().read_back_bytes()};
  for (const core::Held& held : core.held())
    status.held.push_back({std::string(held.kind), held.count, held.bytes});
  status.history_start = job_text(state.broker(), state.history_start());
  status.slow_readers = send_budget_.disconnected;
  return status;
}

}  // namespace millrace::server
