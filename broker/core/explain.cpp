// Where a job is, and what it waits for: for people.
#include <algorithm>

#include "broker/core/core.h"

namespace millrace::core {
namespace {

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

Explanation Core::explain(Now now, JobId id) const {
  const JobState state = context_.state.state_of(id);
  const Job* job = context_.state.find(id);
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
                         std::to_string(context_.settings.history) +
                         " runs of ended jobs, from job " +
                         job_text(context_.state.broker(), context_.state.history_start()) +
                         " on; --history of the broker)"};
    case JobState::dead:
      return {state, "its attempts are used up; it waits for a retry or a drop"};
    case JobState::scheduled:
      return {state, "due in " + in(*context_.state.due_of(id))};
    case JobState::retry_wait:
      return {state, "an attempt failed; next attempt in " + in(*context_.state.due_of(id))};
    case JobState::ready:
      return {state, explain_ready(*job)};
    case JobState::leased:
      break;
  }
  const LeaseInfo* lease = context_.state.lease_of(id);
  const Uuid& worker = context_.state.worker_id(lease->worker);
  const Session* session = sessions_.of_peer(worker);
  if (!session)
    return {state, "leased by worker " + worker.hex() +
                       ", which has not come back since the broker started"};
  const auto left = std::chrono::duration_cast<Millis>(
      lease->since + context_.state.leases().duration(*lease) - now.mono);
  return {state, "leased by " + session->name + " for another " +
                     duration_text(std::max(Millis(0), left)) + ", unless it extends the lease"};
}

std::string Core::explain_ready(const Job& job) const {
  const Queue& queue = context_.state.queues()[job.queue];
  if (context_.draining) return "the broker is stopping";
  if (queue.settings.paused) return "queue " + queue.name + " is paused";
  if (queues_.workers_of(job.queue) == 0) return "no worker is connected for queue " + queue.name;
  if (queue.settings.concurrency > 0 && queue.leased >= queue.settings.concurrency)
    return "queue " + queue.name + " has reached its concurrency of " +
           std::to_string(queue.settings.concurrency) + " leases";
  if (queue.settings.rate > 0 && dispatcher_.is_at_rate(job.queue))
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
