// Who gets which job: credit-based, the least loaded worker first, every queue first in its turn.
#include <algorithm>

#include "broker/core/core.h"
#include "common/check.h"

namespace millrace::core {

void Core::dispatch(Now now, Output& out) {
  now_ = now;
  if (!reports_.empty()) flush_reports(out);
  if (draining_) return;
  size_t queues = state_.queues().size();
  for (size_t i = 0; i < queues; ++i) dispatch_queue(QueueIndex((first_queue_ + i) % queues), out);
  if (queues > 0) first_queue_ = QueueIndex((first_queue_ + 1) % queues);
}

void Core::dispatch_queue(QueueIndex queue, Output& out) {
  const IdSet& ready = state_.queues()[queue].ready;
  while (!ready.empty()) {
    uint64_t candidates = 0;
    Session* worker = least_loaded(queue, &candidates);
    if (!worker) return;
    uint64_t room = worker->credit - state_.leases_of(worker->worker);
    uint64_t share = std::max<uint64_t>(1, ready.size() / candidates);
    grant(*worker, queue, std::min({room, share, protocol::kTargetJobs}), out);
  }
}

// The subscriber that would use the smallest part of its credit with one job more; null if none has
// room. A worker that can't be reached keeps its credit, but gets nothing.
Session* Core::least_loaded(QueueIndex queue, uint64_t* candidates) {
  Session* best = nullptr;
  double best_load = 0;
  for (SessionId id : subscribers_[queue]) {
    Session& session = sessions_.at(id);
    uint64_t held = state_.leases_of(session.worker);
    if (!session.reachable || held >= session.credit) continue;
    ++*candidates;
    double load = double(held + 1) / double(session.credit);
    if (best && load >= best_load) continue;
    best = &session;
    best_load = load;
  }
  return best;
}

void Core::grant(Session& session, QueueIndex queue, uint64_t count, Output& out) {
  protocol::LeaseGrant message{state_.queues()[queue].name, {}};
  records::Leased record{session.peer, state_.next_epoch(), state_.queues()[queue].ready.lowest(count)};
  auto runs = record.runs;
  uint64_t epoch = record.first_epoch.value;
  emit(std::move(record), out);
  message.jobs.reserve(count);
  for (const auto& run : runs) {
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id, ++epoch) {
      const Job* job = state_.find({id});
      MILLRACE_CHECK(job && job->state == JobState::leased);
      message.jobs.push_back({{{id}, {epoch}}, job->attempts, job->report == Report::result, {}});
    }
  }
  send(session, std::move(message), out);
}

}  // namespace millrace::core
