// The core's half that speaks to workers: registration, claims, the ends of leases.
#include <algorithm>
#include <map>
#include <unordered_set>

#include "broker/core/core.h"

namespace millrace::core {

using protocol::FailKind;
using records::ReturnReason;

namespace {

// Failed attempts are remembered of jobs that are there, so rejecting new ones does not bound them:
// above
// --max-memory only so much of their texts is kept as a string holds without an allocation.
std::string_view kept_text(std::string_view text, bool is_over) {
  constexpr size_t kWithoutAllocation = 15;
  return is_over ? text.substr(0, kWithoutAllocation) : text;
}

}  // namespace

void Core::open_worker(Route route, KeyId key, SessionId id, const protocol::Register& message,
                       Output& out) {
  if (auto why = why_not_open(route, key, id, message.worker)) return refuse(route, *why, out);
  // The same process again: what it still holds it claims, so nothing is returned here.
  if (auto older = session_of_.find(message.worker); older != session_of_.end())
    close_session(older->second, ReturnReason::never_arrived, out);
  if (!subscriptions_.has_room(message.queues.size()))
    return refuse(route,
                  {id, "too_many_subscriptions",
                   "the workers of this broker already subscribe to too many queues by name; "
                   "subscribe to a prefix, as tenant.*"},
                  out);
  Session& session = open_session(route, key, id, message.worker, out);
  session.is_worker = true;
  session.name = message.name;
  session.labels.assign(message.labels.begin(), message.labels.end());
  session.threads = message.threads;
  session.last_suspect = now_.mono;
  session.worker = state_.pin_worker(message.worker);
  if (state_.absent().contains(message.worker)) emit(records::Absent{{{message.worker, 0}}}, out);
  subscribe(session, message.queues);
  send_welcome(session, adopt_claims(session, message.claims, out), out);
}

// Keeps what the worker still holds, gives back what never reached it; returns the stale claims.
std::vector<Lease> Core::adopt_claims(Session& session, const std::vector<Lease>& claims,
                                      Output& out) {
  std::vector<Lease> stale, held;
  std::unordered_set<JobId> claimed;
  for (Lease claim : claims) {
    if (holds(session, claim)) {
      state_.leases().extend(claim.job, now_.mono);
      state_.leases().set_recalled(claim.job, false);  // the RECALL may have been lost
      claimed.insert(claim.job);
    } else if (may_still_finish(session, claim)) {
      emit(records::Leased{session.peer, claim.epoch, {{claim.job, 1}}}, out);
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
bool Core::holds(const Session& session, Lease lease) const {
  const LeaseInfo* info = state_.lease_of(lease.job);
  return info && info->epoch == lease.epoch && info->worker == session.worker;
}

// A job that went back to ready, and was not leased since: whoever had it last may still bring it
// in.
bool Core::may_still_finish(const Session& session, Lease lease) const {
  const LastLease* last = state_.last_lease_of(lease.job);
  return last && last->epoch == lease.epoch && last->worker == session.peer;
}

void Core::on(Session& session, const protocol::Credit& message, Output&) {
  session.credit = std::min(message.jobs, kMaxLeasesOfWorker);
  if (message.threads > 0) session.threads = message.threads;
}

// In the order of their ids, entries make long runs, and one that is named twice stands next to
// itself.
void Core::on(Session& session, const protocol::Done& message, Output& out) {
  auto by_job = [](const auto& a, const auto& b) { return a.lease.job < b.lease.job; };
  if (std::is_sorted(message.jobs.begin(), message.jobs.end(), by_job)) {
    finish(session, message.jobs, message.batch, out);
  } else {
    auto sorted = message.jobs;
    std::stable_sort(sorted.begin(), sorted.end(), by_job);
    finish(session, sorted, message.batch, out);
  }
}

void Core::finish(Session& session, const std::vector<protocol::Done::Entry>& jobs, uint64_t batch,
                  Output& out) {
  records::Done record{now_.wall, {}, {}};
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
    report(lease.job, job, JobState::done, entry.result, "");
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
  if (!record.runs.empty()) emit(std::move(record), out);
  finish_batch(session, batch, std::move(stale), out);
}

// The job is done, but what it made can't be stored: it would be so each time, so it is dead.
void Core::fail_too_large(Session& session, const protocol::Done::Entry& entry,
                          std::vector<Lease>* stale, Output& out) {
  if (holds(session, entry.lease)) {
    auto error = std::make_shared<const std::string>(
        protocol::result_too_large(entry.result.size(), settings_.max_job_size));
    fail(session, {entry.lease, FailKind::permanent, *error}, out, error);
  } else if (!state_.won(entry.lease)) {
    stale->push_back(entry.lease);
  }
}

void Core::on(Session& session, const protocol::Fail& message, Output& out) {
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

void Core::fail(Session& session, const protocol::Fail::Entry& entry, Output& out,
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
                         now_.wall,
                         entry.kind,
                         {},
                         kept_text(session.name, is_over),
                         kept_text(entry.error, is_over)};
  if (!is_dead) record.due = now_.wall + backoff(state_.queues()[job.queue].settings, charged);
  ++session.failed;
  emit(std::move(record), out, std::move(owner));
  if (is_dead) report(entry.lease.job, job, JobState::dead, "", entry.error);
}

// Exponential with full range of jitter in its upper half: 500 ms, 1 s, 2 s, … each × 0.5 to 1.
Millis Core::backoff(const records::QueueSettings& queue, uint32_t failures) {
  const Millis least = queue.backoff_min.count() > 0 ? queue.backoff_min : settings_.backoff_min;
  const Millis most = queue.backoff_max.count() > 0 ? queue.backoff_max : settings_.backoff_max;
  Millis base = most;
  if (const int64_t factor = int64_t{1} << std::min(failures - 1, 30u); least < most / factor)
    base = least * factor;
  std::uniform_int_distribution<int64_t> jitter(base.count() / 2, base.count());
  return std::max(Millis(1), Millis(jitter(random_)));
}

void Core::on(Session& session, const protocol::Release& message, Output& out) {
  std::vector<Lease> stale, current;
  for (Lease lease : message.jobs) (holds(session, lease) ? current : stale).push_back(lease);
  return_leases(current, ReturnReason::released, session.name, out);
  finish_batch(session, message.batch, std::move(stale), out);
}

void Core::on(Session& session, const protocol::Extend& message, Output& out) {
  std::vector<Lease> stale;
  for (Lease lease : message.jobs) {
    if (holds(session, lease)) {
      state_.leases().extend(lease.job, now_.mono);
    } else {
      stale.push_back(lease);
    }
  }
  if (!stale.empty()) send(session, protocol::Stale{std::move(stale)}, out);
}

void Core::on(Session& session, const protocol::Bye&, Output& out) {
  if (!session.is_worker) emit(records::ProducerGone{session.peer}, out);
  close_session(session.id, ReturnReason::released, out);
}

void Core::finish_batch(Session& session, uint64_t batch, std::vector<Lease> stale, Output& out) {
  tally_.stale += stale.size();
  if (!stale.empty()) send(session, protocol::Stale{std::move(stale)}, out);
  send(session, protocol::DoneOk{batch}, out);
}

uint64_t Core::threads_of(const Session& worker) {
  return std::clamp<uint64_t>(worker.threads, 1, kMaxLeasesOfWorker);
}

// Nobody has said since the start how many threads an absent worker has: at least one.
Epoch Core::last_started(WorkerIndex worker) {
  auto session = session_of_.find(state_.worker_id(worker));
  return state_.leases().nth_epoch(
      worker, session == session_of_.end() ? 1 : threads_of(sessions_.at(session->second)));
}

// What may have run is charged. What only waited is not, and is leased without prefetch next: the
// worker's last DONEs may have been lost with it, so the job that ended it may be among them.
void Core::charge(const LostLeases& leases, ReturnReason reason, std::string_view worker,
                  Output& out) {
  for (Lease lease : leases.waited) ++flow_of(state_.find(lease.job)->queue).careful;
  return_leases(leases.started, reason, worker, out);
  return_leases(leases.waited, ReturnReason::released, worker, out);
}

void Core::return_leases(const std::vector<Lease>& leases, ReturnReason reason,
                         std::string_view worker, Output& out) {
  if (leases.empty()) return;
  bool is_crash = reason == ReturnReason::lost || reason == ReturnReason::expired;
  auto name = std::make_shared<const std::string>(
      worker);  // the session may be gone before this is written
  records::Returned record{now_.wall, reason, *name, {}};
  std::unordered_map<JobId, bool> named;
  for (Lease lease : leases) {
    if (!named.emplace(lease.job, true).second) continue;
    const Job& job = *state_.find(lease.job);
    record.jobs.push_back({lease, is_crash && job.crashes + 1u >= settings_.crash_limit});
  }
  std::sort(record.jobs.begin(), record.jobs.end(),
            [](const auto& a, const auto& b) { return a.lease.job < b.lease.job; });
  tally_.returned += record.jobs.size();
  auto entries = record.jobs;
  emit(std::move(record), out, name);
  for (const auto& entry : entries) {
    if (!entry.dead) continue;
    const AttemptFailure* failure = state_.last_failure_of(entry.lease.job);
    report(entry.lease.job, *state_.find(entry.lease.job), JobState::dead, "",
           failure ? failure->error : "");
  }
}

}  // namespace millrace::core
