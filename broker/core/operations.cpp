// What people ask of the core: cancel, purge, retry or drop the dead, set a queue, and why a job
// waits.
#include <algorithm>

#include "broker/core/core.h"

namespace millrace::core {
namespace {

constexpr uint64_t kLooksPerJob = 16;  // of a purge, at jobs of other queues: they cost little

// "5 h 59 min": the two largest units; seconds and less alone.
std::string duration_text(Millis duration) {
  const int64_t ms = duration.count();
  auto two = [](int64_t large, const char* large_unit, int64_t small, const char* small_unit) {
    std::string text = std::to_string(large) + large_unit;
    return small == 0 ? text : text + " " + std::to_string(small) + small_unit;
  };
  if (ms < 1000) return std::to_string(ms) + " ms";
  const int64_t seconds = ms / 1000;
  if (seconds < 60) return std::to_string(seconds) + " s";
  if (seconds < 3600) return two(seconds / 60, " min", seconds % 60, " s");
  const int64_t hours = seconds / 3600;
  if (hours < 24) return two(hours, " h", seconds / 60 % 60, " min");
  return two(hours / 24, " d", hours % 24, " h");
}

}  // namespace

uint64_t Core::cancel(Now now, const std::vector<JobRange>& jobs, Output& out) {
  now_ = now;
  std::vector<JobRange> found;
  for (const JobRange& range : jobs) {
    for (uint64_t id = range.first.value; id < range.first.value + range.count; ++id) {
      const Job* job = state_.find({id});
      if (!job || job->state == JobState::dead) continue;
      if (!found.empty() && found.back().first.value + found.back().count == id) {
        ++found.back().count;
      } else {
        found.push_back({{id}, 1});
      }
    }
  }
  const uint64_t before = state_.counts().cancelled;
  end_jobs(found, records::CancelReason::asked, out);
  return state_.counts().cancelled - before;
}

// Of a leased job the worker is told; what it says later is stale.
void Core::end_jobs(const std::vector<JobRange>& jobs, records::CancelReason reason, Output& out) {
  std::unordered_map<Uuid, std::vector<Lease>> told;
  IdSet ending;  // a job may be named twice
  for (const JobRange& range : jobs) ending.insert(range);
  for (const JobRange& range : ending.runs()) {
    for (uint64_t id = range.first.value; id < range.first.value + range.count; ++id) {
      if (const LeaseInfo* lease = state_.lease_of({id}))
        told[state_.worker_id(lease->worker)].push_back({{id}, lease->epoch});
      report({id}, *state_.find({id}), JobState::cancelled, "", "");
    }
  }
  if (!ending.empty()) emit(records::Cancelled{now_.wall, reason, ending.runs()}, out);
  std::vector<Uuid> workers;
  for (const auto& [worker, leases] : told) workers.push_back(worker);
  std::sort(workers.begin(), workers.end());
  for (const Uuid& worker : workers)
    if (auto session = session_of_.find(worker); session != session_of_.end())
      send(sessions_.at(session->second), protocol::Cancelled{std::move(told[worker])}, out);
}

const BulkOperation* Core::start(Now now, BulkRequest request) {
  BulkOperation* operation = operations_.start(std::move(request));
  if (!operation) return nullptr;
  operation->asked_at = now.wall;
  operation->end = state_.next_job();
  const std::string& queue = operation->request.queue;
  if (operation->request.kind != BulkKind::purge) {
    operation->total = operation->named.empty()
                           ? state_.dead().size()
                           : std::min(operation->named.size(), state_.dead().size());
  } else if (state_.has_queue(queue)) {
    const Queue& purged = state_.queues()[state_.queue_index(queue)];
    operation->total = purged.length() - purged.leased;
  }
  return operation;
}

void Core::advance_operations(Now now, Output& out) {
  BulkOperation* operation = operations_.next();
  if (!operation) return;
  now_ = now;
  const records::Counts& counts = state_.counts();
  const uint64_t before = counts.cancelled + counts.requeued;
  switch (operation->request.kind) {
    case BulkKind::purge:
      end_jobs(purge_slice(*operation), records::CancelReason::purged, out);
      break;
    case BulkKind::retry:
      if (auto runs = dead_slice(*operation); !runs.empty())
        emit(records::Requeued{now.wall, std::move(runs)}, out);
      break;
    case BulkKind::drop:
      if (auto runs = dead_slice(*operation); !runs.empty())
        emit(records::Cancelled{now.wall, records::CancelReason::dropped, std::move(runs)}, out);
      break;
  }
  operation->changed += counts.cancelled + counts.requeued - before;
  operations_.end_turn();
}

// By id and not in the order of the ready list: that one changes between the slices.
std::vector<JobRange> Core::purge_slice(BulkOperation& operation) {
  IdSet found;
  const std::string& name = operation.request.queue;
  operation.done = true;
  if (!state_.has_queue(name)) return {};
  const QueueIndex queue = state_.queue_index(name);
  uint64_t looks = settings_.bulk_slice * kLooksPerJob;
  state_.visit_jobs(operation.next, [&](JobId id, const Job& job) {
    if (id >= operation.end) return false;
    operation.next = {id.value + 1};
    const bool waits = job.state == JobState::ready || job.state == JobState::scheduled ||
                       job.state == JobState::retry_wait;
    if (job.queue == queue && waits) found.insert(id);
    operation.done = --looks > 0 && found.size() < settings_.bulk_slice;
    return operation.done;
  });
  operation.examined += found.size();
  return found.runs();
}

std::vector<JobRange> Core::dead_slice(BulkOperation& operation) const {
  IdSet found;
  for (uint64_t looks = settings_.bulk_slice; looks > 0; --looks) {
    auto dead = state_.dead().at_or_after(operation.next);
    if (dead && !operation.named.empty()) {
      auto named = operation.named.at_or_after(dead->first);
      if (named && named->first > dead->first) {  // from there on, then
        operation.next = named->first;
        continue;
      }
      if (!named) dead.reset();
    }
    if (!dead || dead->first >= operation.end) {
      operation.done = true;
      break;
    }
    operation.next = {dead->first.value + 1};
    ++operation.examined;
    if (is_meant(operation, dead->first)) found.insert(dead->first);
  }
  return found.runs();
}

bool Core::is_meant(const BulkOperation& operation, JobId id) const {
  const DeadFilter& filter = operation.request.filter;
  const AttemptFailure* failure = state_.last_failure_of(id);
  if (operation.died_since.contains(id)) return false;
  if (!filter.queue.empty() && state_.queues()[state_.find(id)->queue].name != filter.queue)
    return false;
  if (!filter.error.empty() && (!failure || failure->error.find(filter.error) == std::string::npos))
    return false;
  return filter.older.count() == 0 ||
         (failure && failure->time + filter.older <= operation.asked_at);
}

void Core::note_deaths(const Record& record) {
  if (auto* failed = std::get_if<records::Failed>(&record)) {
    if (failed->due == WallMs{}) operations_.died(failed->lease.job);
  } else if (auto* returned = std::get_if<records::Returned>(&record)) {
    for (const auto& entry : returned->jobs)
      if (entry.dead) operations_.died(entry.lease.job);
  }
}

void Core::set_queue(Now now, std::string_view queue, const records::QueueSettings& settings,
                     Output& out) {
  now_ = now;
  emit(records::QueueSet{std::string(queue), settings}, out);
}

Explanation Core::explain(Now now, JobId id) const {
  const JobState state = state_.state_of(id);
  const Job* job = state_.find(id);
  auto in = [&](WallMs time) {
    return duration_text(std::max(Millis(0), Millis((time - now.wall).count())));
  };
  switch (state) {
    case JobState::unknown:
      return {state, "no job of this number was ever accepted here"};
    case JobState::done:
      return {state, "a worker completed it"};
    case JobState::cancelled:
      return {state, "it was cancelled, purged or dropped"};
    case JobState::expired:
      return {state, "its time to live elapsed before it was done"};
    case JobState::ended:
      return {state, "it has ended; its outcome is no longer stored (the history holds the last " +
                         std::to_string(settings_.history) + " runs of ended jobs, from job " +
                         job_text(state_.broker(), state_.history_start()) +
                         " on; --history of the broker)"};
    case JobState::dead:
      return {state, "its attempts are used up; it waits for a retry or a drop"};
    case JobState::scheduled:
      return {state, "due in " + in(*state_.due_of(id))};
    case JobState::retry_wait:
      return {state, "an attempt failed; next attempt in " + in(*state_.due_of(id))};
    case JobState::ready:
      return {state, explain_ready(id, *job)};
    case JobState::leased:
      break;
  }
  const LeaseInfo* lease = state_.lease_of(id);
  const Uuid& worker = state_.worker_id(lease->worker);
  auto session = session_of_.find(worker);
  if (session == session_of_.end())
    return {state, "leased by worker " + worker.hex() +
                       ", which has not come back since the broker started"};
  const auto left = std::chrono::duration_cast<Millis>(lease->since +
                                                       state_.leases().duration(*lease) - now.mono);
  return {state, "leased by " + sessions_.at(session->second).name + " for another " +
                     duration_text(std::max(Millis(0), left)) + ", unless it extends the lease"};
}

std::string Core::explain_ready(JobId, const Job& job) const {
  const Queue& queue = state_.queues()[job.queue];
  if (draining_) return "the broker is stopping";
  if (queue.settings.paused) return "queue " + queue.name + " is paused";
  if (workers_of(job.queue) == 0) return "no worker is connected for queue " + queue.name;
  if (queue.settings.concurrency > 0 && queue.leased >= queue.settings.concurrency)
    return "queue " + queue.name + " has reached its concurrency of " +
           std::to_string(queue.settings.concurrency) + " leases";
  if (queue.settings.rate > 0 && job.queue < flows_.size() && flows_[job.queue].tokens < 1)
    return "queue " + queue.name + " has reached its rate of " +
           std::to_string(queue.settings.rate) + " a second";
  if (job.suspect)
    return "its worker vanished or its lease expired: it waits for a worker that holds "
           "no "
           "other such job";
  return "it waits for a worker with free capacity; " + std::to_string(queue.ready_jobs()) +
         " jobs are ready in queue " + queue.name;
}

}  // namespace millrace::core
