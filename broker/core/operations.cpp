// What people ask of the core: cancel, purge, retry or drop the dead, set a queue, and why a job waits.
#include <algorithm>

#include "broker/core/core.h"

namespace millrace::core {

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

uint64_t Core::purge(Now now, std::string_view name, Output& out) {
  now_ = now;
  if (!state_.has_queue(name)) return 0;
  const QueueIndex queue = state_.queue_index(name);
  std::vector<JobRange> jobs = state_.queues()[queue].ready.runs();
  for (const auto& [due, id] : state_.due())
    if (state_.find(id)->queue == queue) jobs.push_back({id, 1});
  const uint64_t before = state_.counts().cancelled;
  end_jobs(jobs, records::CancelReason::purged, out);
  return state_.counts().cancelled - before;
}

std::vector<JobRange> Core::select_dead(const DeadFilter& filter) const {
  IdSet asked, found;
  for (const JobRange& range : filter.jobs) asked.insert(range);
  for (const JobRange& run : state_.dead().runs()) {
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) {
      const Trouble* trouble = state_.trouble_of({id});
      if (!filter.jobs.empty() && !asked.contains({id})) continue;
      if (!filter.queue.empty() && state_.queues()[state_.find({id})->queue].name != filter.queue)
        continue;
      if (!filter.error.empty() &&
          (!trouble || trouble->error.find(filter.error) == std::string::npos))
        continue;
      if (filter.older.count() > 0 && (!trouble || trouble->time + filter.older > now_.wall))
        continue;
      found.insert(JobId{id});
    }
  }
  return found.runs();
}

uint64_t Core::revive(Now now, const DeadFilter& filter, Output& out) {
  now_ = now;
  auto runs = select_dead(filter);
  const uint64_t before = state_.counts().revived;
  if (!runs.empty()) emit(records::Revived{now.wall, std::move(runs)}, out);
  return state_.counts().revived - before;
}

uint64_t Core::drop(Now now, const DeadFilter& filter, Output& out) {
  now_ = now;
  const uint64_t before = state_.counts().cancelled;
  auto runs = select_dead(filter);
  if (!runs.empty())
    emit(records::Cancelled{now.wall, records::CancelReason::dropped, std::move(runs)}, out);
  return state_.counts().cancelled - before;
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
    return std::to_string(std::max<int64_t>(0, (time - now.wall).count())) + " ms";
  };
  switch (state) {
    case JobState::unknown:
      return {state, "no job of this number was ever accepted here"};
    case JobState::done:
      return {state, "a worker has done it"};
    case JobState::cancelled:
      return {state, "it was cancelled, purged or dropped"};
    case JobState::expired:
      return {state, "its time to live was over before it was done"};
    case JobState::ended:
      return {state, "it has ended; how is no longer known (the history keeps the last " +
                         std::to_string(settings_.history) + " runs of ended jobs, from job " +
                         job_text(state_.broker(), state_.history_start()) +
                         " on; --history of the broker)"};
    case JobState::dead:
      return {state, "its attempts are used up; it waits for a retry or a drop"};
    case JobState::scheduled:
      return {state, "it is due in " + in(*state_.due_of(id))};
    case JobState::retry_wait:
      return {state, "an attempt failed; the next is due in " + in(*state_.due_of(id))};
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
  const auto left =
      std::chrono::duration_cast<Millis>(lease->since + lease_time(*lease) - now.mono);
  return {state, "leased by " + sessions_.at(session->second).name + " for " +
                     std::to_string(std::max<int64_t>(0, left.count())) +
                     " ms more, unless it extends"};
}

std::string Core::explain_ready(JobId, const Job& job) const {
  const Queue& queue = state_.queues()[job.queue];
  if (draining_) return "the broker is stopping";
  if (queue.settings.paused) return "queue " + queue.name + " is paused";
  auto subscribers = subscribers_.find(job.queue);
  if (subscribers == subscribers_.end() || subscribers->second.empty())
    return "no worker is connected for queue " + queue.name;
  if (queue.settings.concurrency > 0 && queue.leased >= queue.settings.concurrency)
    return "queue " + queue.name + " has its " + std::to_string(queue.settings.concurrency) +
           " leases out (its concurrency)";
  if (queue.settings.rate > 0 && job.queue < flows_.size() && flows_[job.queue].tokens < 1)
    return "queue " + queue.name + " is held by its rate of " +
           std::to_string(queue.settings.rate) + " a second";
  return "it waits for a worker with room; " + std::to_string(queue.ready.size()) +
         " jobs are ready in queue " + queue.name;
}

}  // namespace millrace::core
