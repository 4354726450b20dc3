#include "broker/core/leases.h"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace millrace::core {

using protocol::FailKind;
using records::ReturnReason;

namespace {

constexpr size_t kLeasesPerTick = 65536;  // that end at once

// Failed attempts are remembered of jobs that are there, so rejecting new ones does not bound them:
// above
// --max-memory only so much of their texts is kept as a string holds without an allocation.
std::string_view kept_text(std::string_view text, bool is_over) {
  constexpr size_t kWithoutAllocation = 15;
  return is_over ? text.substr(0, kWithoutAllocation) : text;
}

}  // namespace

std::vector<Lease> Leases::adopt_claims(Session& session, const std::vector<Lease>& claims,
                                        Output& out) {
  std::vector<Lease> stale, held;
  std::unordered_set<JobId> claimed;
  for (Lease claim : claims) {
    if (holds(session, claim)) {
      state_.leases().extend(claim.job, context_.now.mono);
      state_.leases().set_recalled(claim.job, false);  // the RECALL may have been lost
      claimed.insert(claim.job);
    } else if (may_still_finish(session, claim)) {
      context_.emit(records::Leased{session.peer, claim.epoch, {{claim.job, 1}}}, out);
      claimed.insert(claim.job);
    } else if (!state_.won(claim)) {
      stale.push_back(
          claim);  // a claim that won is a completion whose answer got lost: it is sent again
    }
  }
  state_.leases().for_each_of(session.worker, [&](JobId job, const LeaseInfo& lease) {
    if (!claimed.contains(job)) held.push_back({job, lease.epoch});
  });
  return_leases(held, ReturnReason::never_arrived, session.name, out);
  return stale;
}

// Epochs are counted up, so anyone can name one: only the session of the lease's worker ends it.
bool Leases::holds(const Session& session, Lease lease) const {
  const LeaseInfo* info = state_.lease_of(lease.job);
  return info && info->epoch == lease.epoch && info->worker == session.worker;
}

// A job that went back to ready, and was not leased since: whoever had it last may still bring it
// in.
bool Leases::may_still_finish(const Session& session, Lease lease) const {
  const LastLease* last = state_.last_lease_of(lease.job);
  return last && last->epoch == lease.epoch && last->worker == session.peer;
}

void Leases::on(Session& session, const protocol::Credit& message, Output&) {
  session.credit = std::min(message.jobs, kMaxLeasesOfWorker);
  if (message.threads > 0) session.threads = message.threads;
}

// In the order of their ids, entries make long runs, and one that is named twice stands next to
// itself.
void Leases::on(Session& session, const protocol::Done& message, Output& out) {
  auto by_job = [](const auto& a, const auto& b) { return a.lease.job < b.lease.job; };
  if (std::is_sorted(message.jobs.begin(), message.jobs.end(), by_job)) {
    finish(session, message.jobs, message.batch, out);
  } else {
    auto sorted = message.jobs;
    std::stable_sort(sorted.begin(), sorted.end(), by_job);
    finish(session, sorted, message.batch, out);
  }
}

void Leases::finish(Session& session, const std::vector<protocol::Done::Entry>& jobs,
                    uint64_t batch, Output& out) {
  records::Done record{context_.now.wall, {}, {}};
  std::vector<Lease> stale;
  std::map<QueueIndex, uint64_t> of_queue;
  JobId previous{};
  for (const auto& entry : jobs) {
    Lease lease = entry.lease;
    if (lease.job == previous) continue;
    if (entry.result.size() > settings_.max_job_size) {
      fail_too_large(session, entry, &stale, out);
      previous = lease.job;
      continue;
    }
    if (!holds(session, lease) && !may_still_finish(session, lease)) {
      if (!state_.won(lease)) stale.push_back(lease);
      continue;
    }
    previous = lease.job;
    const Job& job = *state_.find(lease.job);
    outcomes_.report(lease.job, job, JobState::done, entry.result, "");
    if (job.report == Report::result && entry.has_result)
      record.results.push_back({lease.job, entry.result});
    auto follows = [&](const records::DoneRun& run) {
      return run.first.value + run.count == lease.job.value &&
             run.first_epoch.value + run.count == lease.epoch.value;
    };
    if (!record.runs.empty() && follows(record.runs.back())) {
      ++record.runs.back().count;
    } else {
      record.runs.push_back({lease.job, lease.epoch, 1});
    }
    ++session.done;
    ++of_queue[job.queue];
  }
  for (auto [queue, count] : of_queue)
    record.totals.push_back({state_.queues()[queue].name, count});
  if (!record.runs.empty()) context_.emit(std::move(record), out);
  finish_batch(session, batch, std::move(stale), out);
}

// The job is done, but what it made can't be stored: it would be so each time, so it is dead.
void Leases::fail_too_large(Session& session, const protocol::Done::Entry& entry,
                            std::vector<Lease>* stale, Output& out) {
  if (holds(session, entry.lease)) {
    auto error = std::make_shared<const std::string>(
        protocol::result_too_large(entry.result.size(), settings_.max_job_size));
    fail(session, {entry.lease, FailKind::permanent, *error}, out, error);
  } else if (!state_.won(entry.lease)) {
    stale->push_back(entry.lease);
  }
}

void Leases::on(Session& session, const protocol::Fail& message, Output& out) {
  std::vector<Lease> stale;
  for (const auto& entry : message.jobs) {
    if (holds(session, entry.lease)) {
      fail(session, entry, out);
    } else {
      stale.push_back(entry.lease);
    }
  }
  finish_batch(session, message.batch, std::move(stale), out);
}

void Leases::fail(Session& session, const protocol::Fail::Entry& entry, Output& out,
                  std::shared_ptr<const void> owner) {
  const Job& job = *state_.find(entry.lease.job);
  const uint8_t of_queue = state_.queues()[job.queue].settings.max_attempts;
  uint32_t limit = job.max_attempts ? job.max_attempts
                   : of_queue       ? of_queue
                                    : settings_.max_attempts;
  bool is_crash = entry.kind == FailKind::crash;
  uint32_t charged = 1u + (is_crash ? job.crashes : job.failures);
  bool is_dead =
      entry.kind == FailKind::permanent || charged >= (is_crash ? settings_.crash_limit : limit);
  const bool is_over = state_.memory_bytes() >= settings_.max_memory;
  records::Failed record{entry.lease,
                         context_.now.wall,
                         entry.kind,
                         {},
                         kept_text(session.name, is_over),
                         kept_text(entry.error, is_over)};
  if (!is_dead)
    record.due = context_.now.wall + backoff(state_.queues()[job.queue].settings, charged);
  ++session.failed;
  context_.emit(std::move(record), out, std::move(owner));
  if (!is_dead) return;
  operations_.job_died(entry.lease.job);
  outcomes_.report(entry.lease.job, job, JobState::dead, "", entry.error);
}

// Exponential with full range of jitter in its upper half: 500 ms, 1 s, 2 s, … each × 0.5 to 1.
Millis Leases::backoff(const records::QueueSettings& queue, uint32_t failures) {
  const Millis least = queue.backoff_min.count() > 0 ? queue.backoff_min : settings_.backoff_min;
  const Millis most = queue.backoff_max.count() > 0 ? queue.backoff_max : settings_.backoff_max;
  Millis base = most;
  if (const int64_t factor = int64_t{1} << std::min(failures - 1, 30u); least < most / factor)
    base = least * factor;
  std::uniform_int_distribution<int64_t> jitter(base.count() / 2, base.count());
  return std::max(Millis(1), Millis(jitter(context_.random)));
}

void Leases::on(Session& session, const protocol::Release& message, Output& out) {
  std::vector<Lease> stale, current;
  for (Lease lease : message.jobs) (holds(session, lease) ? current : stale).push_back(lease);
  return_leases(current, ReturnReason::released, session.name, out);
  finish_batch(session, message.batch, std::move(stale), out);
}

void Leases::on(Session& session, const protocol::Extend& message, Output& out) {
  std::vector<Lease> stale;
  for (Lease lease : message.jobs) {
    if (holds(session, lease)) {
      state_.leases().extend(lease.job, context_.now.mono);
    } else {
      stale.push_back(lease);
    }
  }
  if (!stale.empty()) sessions_.send(session, protocol::Stale{std::move(stale)}, out);
}

void Leases::finish_batch(Session& session, uint64_t batch, std::vector<Lease> stale, Output& out) {
  context_.tally.stale += stale.size();
  if (!stale.empty()) sessions_.send(session, protocol::Stale{std::move(stale)}, out);
  sessions_.send(session, protocol::DoneOk{batch}, out);
}

// Nobody has said since the start how many threads an absent worker has: at least one.
Epoch Leases::last_started(WorkerIndex worker) const {
  const Session* session = sessions_.of_peer(state_.worker_id(worker));
  return state_.leases().nth_epoch(worker, session ? threads_of(*session) : 1);
}

// What may have run is charged. What only waited is not, and is leased without prefetch next: the
// worker's last DONEs may have been lost with it, so the job that ended it may be among them.
void Leases::charge(const LostLeases& leases, ReturnReason reason, std::string_view worker,
                    Output& out) {
  for (Lease lease : leases.waited) dispatcher_.lease_carefully(state_.find(lease.job)->queue);
  return_leases(leases.started, reason, worker, out);
  return_leases(leases.waited, ReturnReason::released, worker, out);
}

void Leases::return_leases(const std::vector<Lease>& leases, ReturnReason reason,
                           std::string_view worker, Output& out) {
  if (leases.empty()) return;
  bool is_crash = reason == ReturnReason::lost || reason == ReturnReason::expired;
  auto name = std::make_shared<const std::string>(
      worker);  // the session may be gone before this is written
  records::Returned record{context_.now.wall, reason, *name, {}};
  std::unordered_map<JobId, bool> named;
  for (Lease lease : leases) {
    if (!named.emplace(lease.job, true).second) continue;
    const Job& job = *state_.find(lease.job);
    record.jobs.push_back({lease, is_crash && job.crashes + 1u >= settings_.crash_limit});
  }
  std::sort(record.jobs.begin(), record.jobs.end(),
            [](const auto& a, const auto& b) { return a.lease.job < b.lease.job; });
  context_.tally.returned += record.jobs.size();
  auto entries = record.jobs;
  context_.emit(std::move(record), out, name);
  for (const auto& entry : entries) {
    if (!entry.dead) continue;
    operations_.job_died(entry.lease.job);
    const AttemptFailure* failure = state_.last_failure_of(entry.lease.job);
    outcomes_.report(entry.lease.job, *state_.find(entry.lease.job), JobState::dead, "",
                     failure ? failure->error : "");
  }
}

void Leases::close(const Session& session, ReturnReason reason, Output& out) {
  if (reason == ReturnReason::never_arrived) return;
  // Who fell silent in the grace window may just have been welcomed too late, and come again.
  const bool may_return = grace_ends_ && reason == ReturnReason::lost;
  const bool is_lost = reason == ReturnReason::lost;
  const Epoch last_started =
      is_lost ? state_.leases().nth_epoch(session.worker, threads_of(session)) : Epoch{};
  LostLeases held;
  state_.leases().for_each_of(session.worker, [&](JobId job, const LeaseInfo& lease) {
    const bool survived = lease.epoch < state_.first_epoch();
    if (!(may_return && survived)) held.add({job, lease.epoch}, last_started);
  });
  if (is_lost) {
    charge(held, reason, session.name, out);
  } else {
    return_leases(held.waited, reason, session.name, out);
  }
}

// Whoever waits between two attempts just now must have the time to come back.
void Leases::begin() {
  next_grace_period_ = context_.now.mono + grace_period();
  if (state_.leased_jobs() > 0)
    grace_ends_ = context_.now.mono + records::kGracePeriods * grace_period();
}

void Leases::tick(Mono::duration late, Output& out) {
  if (grace_ends_) {
    *grace_ends_ += late;
    next_grace_period_ += late;
  }
  while (grace_ends_ && context_.now.mono >= next_grace_period_) {
    if (next_grace_period_ >= *grace_ends_) grace_ends_.reset();
    next_grace_period_ += grace_period();
    end_grace_period(out);
  }
  tick_expired(late, out);
}

void Leases::tick_expired(Mono::duration late, Output& out) {
  LostLeases expired;
  std::unordered_map<WorkerIndex, Epoch> started;
  for (JobId job : state_.leases().take_due(context_.now.mono - late, kLeasesPerTick)) {
    const LeaseInfo& lease = *state_.lease_of(job);
    if (grace_ends_ && !state_.is_pinned(lease.worker)) {
      state_.leases().extend(job, context_.now.mono);  // its worker may still come back
    } else {
      auto [up_to, is_new] = started.try_emplace(lease.worker);
      if (is_new) up_to->second = last_started(lease.worker);
      expired.add({job, lease.epoch}, up_to->second);
    }
  }
  charge(expired, ReturnReason::expired, "", out);
}

// Workers that held leases when the broker stopped and have not come back have one period more
// behind them: one in which the broker was there. The window is over for those that have had all of
// them, in this start and in those before it, and for all when this start's is over.
void Leases::end_grace_period(Output& out) {
  std::map<Uuid, uint8_t> away;
  LostLeases orphans;
  state_.for_each_worker([&](WorkerIndex worker) {
    if (state_.is_pinned(worker)) return;
    const Uuid& id = state_.worker_id(worker);
    auto before = state_.absent().find(id);
    const int periods = 1 + (before == state_.absent().end() ? 0 : before->second);
    if (grace_ends_ && periods < records::kGracePeriods) {
      away[id] = uint8_t(periods);
    } else {
      const Epoch up_to = last_started(worker);
      state_.leases().for_each_of(worker, [&](JobId job, const LeaseInfo& lease) {
        orphans.add({job, lease.epoch}, up_to);
      });
    }
  });
  records::Absent changed;
  for (const auto& [id, periods] : state_.absent())
    if (!away.contains(id)) changed.workers.push_back({id, 0});
  for (const auto& [id, periods] : away) changed.workers.push_back({id, periods});
  if (!changed.workers.empty()) context_.emit(std::move(changed), out);
  charge(orphans, ReturnReason::lost, "", out);
}

}  // namespace millrace::core
