#include "broker/core/dispatch/dispatcher.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/base/check.h"

namespace millrace::core {
namespace {

constexpr uint64_t kQuantum = 32;  // jobs of weight 1 that a queue may have before another's turn
constexpr uint64_t kGrantBytes = 4 << 20;  // of payloads, to one worker in one dispatch
constexpr size_t kManyAudiences = 16;      // full ones, before it is asked whether all are
constexpr size_t kMaxReading = 256;        // queues that wait for a payload and let others go first
constexpr size_t kSuspectLooks = 256;      // of queues with suspects, in one dispatch
constexpr Millis kSuspectsApart{10'000};   // that a worker has one alone, if it does not end before
constexpr double kBurstSeconds = 0.1;      // of a rate, that may go out at once

}  // namespace

// The queue whose turn it is goes on until its audience's workers are full; then that audience
// waits for the next round. A round costs what it grants, and something for each audience, not each
// queue.
void Dispatcher::dispatch(Output& out) {
  ++dispatches_;
  more_to_grant_ = false;
  for (QueueIndex queue : state_.take_changed_queues())
    if (state_.queues()[queue].in_use()) place(queue);
  if (context_.draining) return;
  for (QueueIndex queue : std::exchange(reading_, {}))
    if (queue < state_.queues().size() && state_.queues()[queue].in_use()) place(queue);
  while (!throttled_.empty() && throttled_.begin()->first <= context_.now.mono)
    place(throttled_.begin()->second);
  dispatch_suspects(out);
  size_t full = 0;  // audiences that were passed over
  for (auto next = first_turns_.begin(); next != first_turns_.end();) {
    const auto turn = *next;
    const QueueIndex queue = turn.second;
    const bool alone =
        first_turns_.size() - full == 1 && flow_of(queue).audience->waiting.size() == 1;
    const bool may_grant = allowance(queue) > 0 && !state_.queues()[queue].ready.empty();
    if (may_grant && dispatch_some(queue, alone, out) == 0 && flow_of(queue).waits) {
      ++next;
      if (++full >= kManyAudiences && std::has_single_bit(full) && !some_worker_has_room()) break;
    } else {
      if (reading_.empty() || reading_.back() != queue) place(queue);
      next = first_turns_.lower_bound(turn);  // a turn only ever moves back
    }
  }
}

std::optional<Mono> Dispatcher::wake_at() const {
  if (context_.draining || throttled_.empty()) return std::nullopt;
  return throttled_.begin()->first;
}

void Dispatcher::set_audience(QueueIndex queue, Subscriptions::Audience* audience) {
  Flow& flow = flow_of(queue);
  if (audience == flow.audience) return subscriptions_.release(audience);
  displace(queue);
  subscriptions_.release(flow.audience);
  join(flow, audience);
  place(queue);
}

void Dispatcher::join(Flow& flow, Subscriptions::Audience* audience) {
  flow.audience = audience;
  if (audience) audience->level = std::max(audience->level, flow.start);
}

Subscriptions::Audience* Dispatcher::audience_of(QueueIndex queue) const {
  return queue < flows_.size() ? flows_[queue].audience : nullptr;
}

void Dispatcher::remove(QueueIndex queue) {
  displace(queue);
  Flow& flow = flow_of(queue);
  subscriptions_.release(flow.audience);
  flow = {};
}

bool Dispatcher::is_at_rate(QueueIndex queue) const {
  return queue < flows_.size() && flows_[queue].tokens < 1;
}

Dispatcher::Flow& Dispatcher::flow_of(QueueIndex queue) {
  if (queue >= flows_.size()) flows_.resize(queue + 1);
  return flows_[queue];
}

// Puts the queue where it belongs: among those that wait for a worker, or for its rate, or nowhere.
void Dispatcher::place(QueueIndex index) {
  displace(index);
  const Queue& queue = state_.queues()[index];
  Flow& flow = flow_of(index);
  if (!flow.audience) join(flow, subscriptions_.match(queue.name));
  if (queue.ready_jobs() == 0 || !flow.audience) return;
  if (allowance(index) > 0) {
    if (!queue.ready.empty()) set_waiting(index, true);
  } else if (flow.throttled) {
    throttled_.emplace(*flow.throttled, index);
  }
}

void Dispatcher::displace(QueueIndex index) {
  Flow& flow = flow_of(index);
  if (flow.throttled) throttled_.erase({*flow.throttled, index});
  flow.throttled.reset();
  if (flow.waits) set_waiting(index, false);
}

void Dispatcher::set_waiting(QueueIndex index, bool waits) {
  Flow& flow = flow_of(index);
  auto& waiting = flow.audience->waiting;
  const Subscriptions::Turn turn{flow.pass, index};
  if (!waiting.empty()) first_turns_.erase(*waiting.begin());
  if (waits) {
    waiting.insert(turn);
  } else {
    waiting.erase(turn);
  }
  if (!waiting.empty()) first_turns_.insert(*waiting.begin());
  flow.waits = waits;
}

bool Dispatcher::some_worker_has_room() {
  return std::any_of(sessions_.all().begin(), sessions_.all().end(), [&](auto& entry) {
    Session& session = entry.second;
    return session.is_worker && session.reachable &&
           state_.leases_of(session.worker) < credit_of(session);
  });
}

// How many jobs the queue's own limits let go now.
uint64_t Dispatcher::allowance(QueueIndex index) {
  const Queue& queue = state_.queues()[index];
  const records::QueueSettings& settings = queue.settings;
  if (settings.paused) return 0;
  uint64_t most = UINT64_MAX;
  if (settings.concurrency > 0)
    most = settings.concurrency - std::min(settings.concurrency, queue.leased);
  if (settings.rate == 0 || most == 0) return most;
  Flow& flow = flow_of(index);
  const double rate = double(settings.rate), burst = std::max(1.0, rate * kBurstSeconds);
  const double seconds = std::chrono::duration<double>(context_.now.mono - flow.refilled).count();
  flow.tokens = flow.refilled == Mono{} ? burst : std::min(burst, flow.tokens + seconds * rate);
  flow.refilled = context_.now.mono;
  if (flow.tokens < 1 && !flow.waits) {
    const auto wait = std::chrono::nanoseconds(int64_t(std::ceil((1 - flow.tokens) / rate * 1e9)));
    flow.throttled = context_.now.mono + wait;
  }
  return std::min(most, uint64_t(flow.tokens));
}

// One grant; 0 if the queue has nothing to give, or nobody to give it to.
uint64_t Dispatcher::dispatch_some(QueueIndex index, bool alone, Output& out) {
  const Queue& queue = state_.queues()[index];
  uint64_t most = std::min({allowance(index), queue.ready.size(), protocol::kTargetJobs});
  if (most == 0) return 0;
  uint64_t candidates = 0;
  Flow& flow = flow_of(index);
  Session* worker = least_loaded(index, &candidates);
  if (!worker) return 0;
  if (!alone) most = std::min(most, kQuantum * queue.settings.weight);
  if (flow.careful > 0) most = std::min(most, flow.careful);
  const uint64_t share = std::max<uint64_t>(1, queue.ready.size() / candidates);
  const uint64_t count = fit_bytes(*worker, index, std::min({room(*worker, index), share, most}));
  if (count == 0) {  // others of the audience may go on while its payload is read
    if (reading_.size() < kMaxReading) displace(index), reading_.push_back(index);
    return 0;
  }
  grant(*worker, index, queue.ready.next(count), count, out);
  if (flow.careful > 0) worker->careful_up_to = {state_.next_epoch().value - 1};
  flow.careful -= std::min(flow.careful, count);
  return count;
}

// Suspects go first, in the order of their ids, each to a worker that has had no other one for a
// while: whichever of them ends its worker is then found, and ends none of the others. Where no
// worker may have one now, it waits, and the other jobs of its queue go on.
void Dispatcher::dispatch_suspects(Output& out) {
  const auto& queues = state_.suspects();
  size_t vain = 0;
  for (size_t looks = 0; vain < queues.size(); ++looks) {
    if (looks == kSuspectLooks) {
      more_to_grant_ = more_to_grant_ || vain < kSuspectLooks;
      return;
    }
    auto next = queues.upper_bound(suspect_queue_);
    suspect_queue_ = (next == queues.end() ? queues.begin() : next)->first;
    vain = dispatch_suspect(suspect_queue_, out) ? 0 : vain + 1;
  }
}

bool Dispatcher::dispatch_suspect(QueueIndex index, Output& out) {
  Flow& flow = flow_of(index);
  if (!flow.audience || flow.throttled) return false;
  if (allowance(index) == 0) {
    if (flow.throttled) place(index);
    return false;
  }
  Session* worker = least_busy(*flow.audience);
  if (!worker) return false;
  std::vector<JobRange> job = state_.suspects().at(index).lowest(1);
  if (payload_size_) {
    const auto size = payload_size_(job[0].first);
    if (!size) return false;
    worker->granted_bytes += *size;
  }
  worker->last_suspect = context_.now.mono;
  grant(*worker, index, std::move(job), 1, out);
  place(index);
  return true;
}

// The one of those that may have a suspect where it is most likely to start at once.
Session* Dispatcher::least_busy(Subscriptions::Audience& audience) {
  Session* best = nullptr;
  double best_load = 0;
  for (SessionId id : subscriptions_.sessions_of(audience)) {
    Session& session = sessions_.at(id);
    if (!takes_suspect(session) || !sessions_.has_room(session) || !has_bytes_left(session))
      continue;
    const double load = double(state_.leases_of(session.worker)) / double(threads_of(session));
    if (best && load >= best_load) continue;
    best = &session;
    best_load = load;
  }
  return best;
}

bool Dispatcher::takes_suspect(Session& worker) {
  if (state_.leases_of(worker.worker) >= credit_of(worker)) return false;
  return state_.suspects_of(worker.worker) == 0 ||
         context_.now.mono - worker.last_suspect >= kSuspectsApart;
}

bool Dispatcher::has_bytes_left(Session& worker) {
  if (worker.granted_in != dispatches_) worker.granted_bytes = 0, worker.granted_in = dispatches_;
  if (worker.granted_bytes < kGrantBytes) return true;
  more_to_grant_ = true;
  return false;
}

// What it may hold. Behind a suspect nothing is prefetched: no job that starts when the suspect has
// ended can end the worker before the suspect's DONE is sent. Likewise behind what is leased
// carefully.
uint64_t Dispatcher::credit_of(Session& worker) {
  const WorkerIndex index = worker.worker;
  if (worker.careful_up_to != Epoch{}) {
    const Epoch oldest = state_.leases().nth_epoch(index, 1);
    if (oldest == Epoch{} || oldest > worker.careful_up_to) worker.careful_up_to = {};
  }
  const bool prefetches = worker.careful_up_to == Epoch{} && state_.suspects_of(index) == 0;
  return prefetches ? worker.credit : std::min(worker.credit, threads_of(worker));
}

uint64_t Dispatcher::room(Session& worker, QueueIndex queue) {
  const uint64_t held = state_.leases_of(worker.worker), threads = threads_of(worker);
  const uint64_t most = credit_of(worker), room = most - std::min(most, held);
  if (flow_of(queue).careful == 0) return room;
  return std::min(room, std::max<uint64_t>(1, threads - std::min(threads, held)));
}

// Of the queue's next jobs, how many this dispatch may still send to the worker: none while the
// payload of the very next one is not in memory, else one at least.
uint64_t Dispatcher::fit_bytes(Session& worker, QueueIndex index, uint64_t count) {
  if (!payload_size_) return count;
  const ReadyList& ready = state_.queues()[index].ready;
  // Of fewer jobs others may be the next ones: these are looked at as well, down to the very next.
  for (bool again = false;; again = true) {
    uint64_t bytes = worker.granted_bytes;
    const uint64_t fitting = count_fitting(ready.next(count), &bytes);
    if (fitting == count || count == 1) {
      worker.granted_bytes = bytes;
      return fitting;
    }
    count = std::max<uint64_t>(1, again ? std::min(fitting, count / 2) : fitting);
  }
}

uint64_t Dispatcher::count_fitting(const std::vector<JobRange>& runs, uint64_t* bytes) const {
  uint64_t fitting = 0;
  for (const JobRange& run : runs) {
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) {
      if (fitting > 0 && *bytes >= kGrantBytes) return fitting;
      const auto size = payload_size_({id});
      if (!size) return fitting;
      *bytes += *size;
      ++fitting;
    }
  }
  return fitting;
}

// Of the subscribers with room one that has a thread free, or else any, and of these the one that
// would use the smallest part of its credit with one job more; null if none has room. A worker that
// can't be reached, or that does not read, keeps its credit, but gets nothing.
Session* Dispatcher::least_loaded(QueueIndex queue, uint64_t* candidates) {
  Session* best = nullptr;
  double best_load = 0;
  for (SessionId id : subscriptions_.sessions_of(*flow_of(queue).audience)) {
    Session& session = sessions_.at(id);
    if (room(session, queue) == 0 || !sessions_.has_room(session) || !has_bytes_left(session))
      continue;
    ++*candidates;
    const uint64_t held = state_.leases_of(session.worker);
    const double load = double(held + 1) / double(session.credit) + double(held >= session.threads);
    if (best && load >= best_load) continue;
    best = &session;
    best_load = load;
  }
  return best;
}

// What a LEASE of the queue says now.
Millis Dispatcher::lease_time(QueueIndex queue) const {
  const Millis own = state_.queues()[queue].settings.lease;
  return own.count() > 0 ? own : settings_.lease;
}

void Dispatcher::grant(Session& session, QueueIndex queue, std::vector<JobRange> runs,
                       uint64_t count, Output& out) {
  protocol::LeaseGrant message{state_.queues()[queue].name, {}, lease_time(queue)};
  records::Leased record{session.peer, state_.next_epoch(), runs};
  uint64_t epoch = record.first_epoch.value;
  context_.emit(std::move(record), out);
  message.jobs.reserve(count);
  for (const auto& run : runs) {
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id, ++epoch) {
      const Job* job = state_.find({id});
      MILLRACE_CHECK(job && job->state == JobState::leased);
      if (message.lease != settings_.lease) state_.leases().set_duration({id}, message.lease);
      message.jobs.push_back({{{id}, {epoch}}, job->attempts, job->report == Report::result, {}});
    }
  }
  sessions_.send(session, std::move(message), out);

  displace(queue);
  Flow& flow = flow_of(queue);
  const records::QueueSettings& settings = state_.queues()[queue].settings;
  // Who was idle begins level with the audience's and the worker's other queues, not with what it
  // saved up.
  flow.start = std::max({flow.pass, session.pass, flow.audience->level});
  session.pass = flow.audience->level = flow.start;
  flow.pass = flow.start + double(count) / double(settings.weight);
  if (settings.rate > 0) flow.tokens -= double(count);
}

}  // namespace millrace::core
