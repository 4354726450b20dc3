#include "broker/core/outcomes/operations.h"

#include <algorithm>

namespace millrace::core {
namespace {

constexpr uint64_t kLooksPerJob = 16;  // of a purge, at jobs of other queues: they cost little

}  // namespace

uint64_t Operations::cancel(const std::vector<JobRange>& jobs, Output& out) {
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
void Operations::end_jobs(const std::vector<JobRange>& jobs, records::CancelReason reason,
                          Output& out) {
  std::unordered_map<Uuid, std::vector<Lease>> told;
  IdSet ending;  // a job may be named twice
  for (const JobRange& range : jobs) ending.insert(range);
  for (const JobRange& range : ending.runs()) {
    for (uint64_t id = range.first.value; id < range.first.value + range.count; ++id) {
      if (const LeaseInfo* lease = state_.lease_of({id}))
        told[state_.worker_id(lease->worker)].push_back({{id}, lease->epoch});
      outcomes_.report({id}, *state_.find({id}), JobState::cancelled, "", "");
    }
  }
  if (!ending.empty())
    context_.emit(records::Cancelled{context_.now.wall, reason, ending.runs()}, out);
  std::vector<Uuid> workers;
  for (const auto& [worker, leases] : told) workers.push_back(worker);
  std::sort(workers.begin(), workers.end());
  for (const Uuid& worker : workers)
    if (Session* session = sessions_.of_peer(worker))
      sessions_.send(*session, protocol::Cancelled{std::move(told[worker])}, out);
}

const BulkOperation* Operations::start(BulkRequest request) {
  BulkOperation* operation = pending_.start(std::move(request));
  if (!operation) return nullptr;
  operation->asked_at = context_.now.wall;
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

void Operations::advance(Output& out) {
  BulkOperation* operation = pending_.next();
  if (!operation) return;
  const records::Counts& counts = state_.counts();
  const uint64_t before = counts.cancelled + counts.requeued;
  switch (operation->request.kind) {
    case BulkKind::purge:
      end_jobs(purge_slice(*operation), records::CancelReason::purged, out);
      break;
    case BulkKind::retry:
      if (auto runs = dead_slice(*operation); !runs.empty())
        context_.emit(records::Requeued{context_.now.wall, std::move(runs)}, out);
      break;
    case BulkKind::drop:
      if (auto runs = dead_slice(*operation); !runs.empty())
        context_.emit(
            records::Cancelled{context_.now.wall, records::CancelReason::dropped, std::move(runs)},
            out);
      break;
  }
  operation->changed += counts.cancelled + counts.requeued - before;
  pending_.end_turn();
}

// By id and not in the order of the ready list: that one changes between the slices.
std::vector<JobRange> Operations::purge_slice(BulkOperation& operation) {
  IdSet found;
  const std::string& name = operation.request.queue;
  operation.done = true;
  if (!state_.has_queue(name)) return {};
  const QueueIndex queue = state_.queue_index(name);
  uint64_t looks = context_.settings.bulk_slice * kLooksPerJob;
  state_.visit_jobs(operation.next, [&](JobId id, const Job& job) {
    if (id >= operation.end) return false;
    operation.next = {id.value + 1};
    const bool waits = job.state == JobState::ready || job.state == JobState::scheduled ||
                       job.state == JobState::retry_wait;
    if (job.queue == queue && waits) found.insert(id);
    operation.done = --looks > 0 && found.size() < context_.settings.bulk_slice;
    return operation.done;
  });
  operation.examined += found.size();
  return found.runs();
}

std::vector<JobRange> Operations::dead_slice(BulkOperation& operation) const {
  IdSet found;
  for (uint64_t looks = context_.settings.bulk_slice; looks > 0; --looks) {
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

bool Operations::is_meant(const BulkOperation& operation, JobId id) const {
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

}  // namespace millrace::core
