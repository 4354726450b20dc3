#include "broker/core/core.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::core {

using protocol::FromBroker;

namespace {

constexpr uint64_t kRecordWork = 8;       // of writing one, beside the jobs that it names
constexpr Millis kClockStep{1000};        // less is drift
constexpr size_t kTimersPerTick = 4096;   // due or expired at once; the rest in the next round
constexpr size_t kLeasesPerTick = 65536;  // that end at once

// Which port a message belongs to; heartbeats and BYE belong to both.
bool belongs(const protocol::FromClient& message, Port port) {
  using namespace protocol;
  bool producers =
      std::holds_alternative<Hello>(message) || std::holds_alternative<Submit>(message) ||
      std::holds_alternative<Query>(message) || std::holds_alternative<Collected>(message) ||
      std::holds_alternative<Cancel>(message);
  bool both = std::holds_alternative<Heartbeat>(message) || std::holds_alternative<Bye>(message);
  return both || producers == (port == Port::frontend);
}

// A job with a time to wait for, an end or a key costs about as much as this many without.
constexpr uint64_t kTimedWork = 8;

// Of those that it names one by one.
uint64_t work_of(const protocol::FromClient& message) {
  return std::visit(
      [](const auto& m) -> uint64_t {
        if constexpr (requires { m.payloads.size(); }) {
          const auto& options = m.options;
          const bool is_plain =
              options.delay == Millis(0) && options.ttl == Millis(0) && m.keys.empty();
          return m.payloads.size() * (is_plain ? 1 : kTimedWork);
        } else if constexpr (requires { m.claims.size(); }) {
          return m.claims.size();
        } else if constexpr (requires { m.jobs.size(); }) {
          return m.jobs.size();
        } else {
          return 0;
        }
      },
      message);
}

}  // namespace

Core::Core(Settings settings, uint64_t seed)
    : settings_(settings),
      state_(settings.retention),
      random_(seed),
      queued_mark_(settings.max_queued),
      memory_mark_(settings.max_memory) {
  state_.leases().set_default_duration(settings_.lease);
}

std::optional<std::string> Core::replay(const Record& record, Now now) {
  if (auto problem = state_.check(record)) return problem;
  state_.apply(record, now.mono);
  return std::nullopt;
}

void Core::begin(Now now, BrokerId new_broker, Output& out) {
  now_ = now;
  if (state_.broker() == BrokerId{}) state_.set_broker(new_broker);
  checkpoint(out);
  emit(records::Started{state_.incarnation() + 1, now.wall, next_first_epoch()}, out);
  next_tick_ = now.mono + settings_.heartbeat / 4;
  measured_ = now.mono;
  next_recall_ = now.mono + kRecallEvery;
  ticked_ = now;
  clock_went_back_ = true;
  ended_before_ = state_.counts().done;
  // Whoever waits between two attempts just now must have the time to come back.
  next_grace_period_ = now.mono + grace_period();
  if (state_.leased_jobs() > 0) grace_ends_ = now.mono + records::kGracePeriods * grace_period();
}

// Above all that were given out, also above those whose records a power cut took from a journal
// that is not synced. One that version 1 brought near to 2^53 begins anew as soon as no job has an
// epoch.
Epoch Core::next_first_epoch() const {
  const Epoch next = state_.next_epoch();
  if (next == Epoch{} || (next >= kHighEpoch && !state_.knows_epochs())) return {1};
  return {next.value + kEpochSkip};
}

// It lengthens no history, so the trimming that a lower limit asks for comes behind what follows:
// Started.
void Core::checkpoint(Output& out) { put(state_.checkpoint(), out); }

void Core::relocate(JobId job, std::string_view payload, Output& out) {
  if (state_.result_of(job)) return emit(state_.kept(job), out);
  records::Relocated record = state_.relocated(job);
  record.payload = payload;
  emit(std::move(record), out);
}

void Core::receive(Now now, Route route, const protocol::Envelope<protocol::FromClient>& envelope,
                   Output& out, KeyId key) {
  now_ = now;
  work_ += work_of(envelope.message);  // they were decoded, whoever sent them
  const SessionId id = envelope.session;
  if (id.value == 0) return refuse(route, {id, "malformed", "a session should not be 0"}, out);
  if (!belongs(envelope.message, route.port))
    return refuse(route,
                  {id, "wrong_port", "producers speak to the frontend, workers to the backend",
                   protocol::about(envelope.message)},
                  out);
  if (auto* hello = std::get_if<protocol::Hello>(&envelope.message))
    return open_producer(route, key, id, *hello, out);
  if (auto* reg = std::get_if<protocol::Register>(&envelope.message))
    return open_worker(route, key, id, *reg, out);

  auto found = sessions_.find(id);
  // What a peer missed may have been a CONFIRM, a LEASE or a DONE_OK: only a new session makes that
  // good.
  const bool is_known =
      found != sessions_.end() && found->second.route == route && found->second.key == key &&
      (found->second.reachable || std::holds_alternative<protocol::Bye>(envelope.message));
  if (!is_known) {
    out.sends.push_back({route, id, protocol::Reregister{}, true});
    return;
  }
  found->second.last_received = now.mono;
  std::visit(
      [&](const auto& message) {
        using T = std::decay_t<decltype(message)>;
        if constexpr (!std::is_same_v<T, protocol::Hello> && !std::is_same_v<T, protocol::Register>)
          on(found->second, message, out);
      },
      envelope.message);
}

void Core::refuse(Route route, const protocol::Fault& fault, Output& out) {
  ++tally_.errors;
  out.sends.push_back(
      {route, fault.session, protocol::ErrorReply{fault.code, fault.message, fault.about}, true});
}

std::string Core::name_of(Route route) const {
  const auto& sessions = sessions_on(route);
  if (sessions.empty()) return "unknown";
  const Session& first = sessions_.at(sessions.front());
  return first.is_worker ? first.name : "producer " + first.peer.hex();
}

void Core::unreachable(SessionId id) {
  auto found = sessions_.find(id);
  if (found != sessions_.end()) found->second.reachable = false;
}

void Core::unreachable(Route route) {
  for (SessionId id : sessions_on(route)) sessions_.at(id).reachable = false;
}

std::vector<SessionId> Core::expel(Now now, Route route, Output& out) {
  now_ = now;
  std::vector<SessionId> gone = sessions_on(route);
  std::sort(gone.begin(), gone.end());
  for (SessionId id : gone) close_session(id, records::ReturnReason::lost, out);
  return gone;
}

void Core::emit(Record record, Output& out, std::shared_ptr<const void> owner) {
  put(std::move(record), out, std::move(owner));
  trim_history(out);
}

void Core::put(Record record, Output& out, std::shared_ptr<const void> owner) {
  state_.apply(record, now_.mono);
  work_ += kRecordWork;
  if (operations_.pending() > 0) note_deaths(record);
  out.records.push_back({std::move(record), std::move(owner)});
}

// By an eighth at a time, so that it is worth a record. A Checkpoint never sees more than that.
void Core::trim_history(Output& out) {
  if (state_.history_runs() <= settings_.history + settings_.history / 8) return;
  const records::HistoryTrimmed trimmed{state_.history_excess(settings_.history)};
  state_.apply(trimmed, now_.mono);
  out.records.push_back({trimmed, nullptr});
}

void Core::send(Session& session, FromBroker message, Output& out, bool at_once) {
  session.last_sent = now_.mono;
  out.sends.push_back({session.route, session.id, std::move(message), at_once});
}

bool Core::every_producer_knows_draining() const {
  return std::all_of(sessions_.begin(), sessions_.end(), [](const auto& entry) {
    const Session& session = entry.second;
    return session.is_worker || session.knows_draining || !session.reachable;
  });
}

const std::vector<SessionId>& Core::sessions_on(Route route) const {
  static const std::vector<SessionId> kNone;
  auto found = sessions_on_.find(number_of(route));
  return found == sessions_on_.end() ? kNone : found->second;
}

// Why a HELLO or REGISTER opens nothing, and ends nothing.
std::optional<protocol::Fault> Core::why_not_open(Route route, KeyId key, SessionId id,
                                                  const Uuid& peer) const {
  auto refused = [&](std::string_view code, std::string why) {
    return protocol::Fault{id, code, std::move(why),
                           protocol::About{protocol::About::Kind::broker, state_.broker().value}};
  };
  auto same = sessions_.find(id);
  const bool is_open = same != sessions_.end();
  if (is_open && !(same->second.route == route && same->second.key == key))
    return refused("not_yours",
                   "another connection has opened this session: draw a new random number for each");
  auto current = session_of_.find(peer);
  const Session* older = current == session_of_.end() ? nullptr : &sessions_.at(current->second);
  const bool is_from_here = older && older->route == route;
  const bool is_in_use =
      older && !is_from_here && older->reachable && is_connected_ && is_connected_(older->route);
  if (is_in_use || (older && older->key != key))
    return refused("not_yours",
                   "another connection has a session of this producer or worker: try again when it "
                   "is closed, or has been silent for " +
                       std::to_string((settings_.heartbeat * settings_.liveness).count()) +
                       " ms; two processes need two IDs");
  if (!is_open && !is_from_here && sessions_on(route).size() >= kMaxSessionsPerConnection)
    return refused("too_many_sessions",
                   "this connection has " + std::to_string(kMaxSessionsPerConnection) +
                       " sessions, the maximum: end one with BYE, or open another connection");
  if (auto own = sessions_of_key_.find(key);
      !is_open && !older && own != sessions_of_key_.end() &&
      own->second + sessions_.size() >= protocol::kMaxSessions)
    return refused("too_many_sessions",
                   "the broker has " + std::to_string(sessions_.size()) + " sessions, " +
                       std::to_string(own->second) +
                       " of them of this connection's key, which leaves as many to the others: end "
                       "some with BYE, or give clients keys of their own");
  if (!is_open && !older && sessions_.size() >= protocol::kMaxSessions)
    return refused("too_many_sessions", "the broker has " + std::to_string(protocol::kMaxSessions) +
                                            " sessions, the maximum: try again later");
  return std::nullopt;
}

Session& Core::open_session(Route route, KeyId key, SessionId id, const Uuid& peer, Output& out) {
  close_session(id, records::ReturnReason::never_arrived, out);
  Session& session = sessions_[id];
  session.id = id;
  session.route = route;
  session.key = key;
  session.peer = peer;
  session.last_received = session.last_sent = now_.mono;
  session_of_[peer] = id;
  sessions_on_[number_of(route)].push_back(id);
  if (key != KeyId{}) ++sessions_of_key_[key];
  return session;
}

// The one way in which a peer is gone: it said BYE (released), fell silent (lost), or came again.
void Core::close_session(SessionId id, records::ReturnReason reason, Output& out) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  Session session = std::move(found->second);
  sessions_.erase(found);
  auto& siblings = sessions_on_.at(number_of(session.route));
  std::erase(siblings, id);
  if (siblings.empty()) sessions_on_.erase(number_of(session.route));
  if (auto own = sessions_of_key_.find(session.key);
      own != sessions_of_key_.end() && --own->second == 0)
    sessions_of_key_.erase(own);
  if (!session.questions.empty()) std::erase(answering_, id);
  while (!session.questions.empty()) forget_question(session);
  auto current = session_of_.find(session.peer);
  if (current != session_of_.end() && current->second == id) session_of_.erase(current);
  if (!session.is_worker) return;

  unsubscribe(session);
  if (reason != records::ReturnReason::never_arrived) {  // else its successor claims what it holds
    // Who fell silent in the grace window may just have been welcomed too late, and come again.
    const bool may_return = grace_ends_ && reason == records::ReturnReason::lost;
    const bool is_lost = reason == records::ReturnReason::lost;
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
  state_.unpin_worker(session.worker);
}

void Core::send_welcome(Session& session, std::vector<Lease> stale, Output& out) {
  protocol::Welcome welcome;
  welcome.broker = state_.broker();
  welcome.incarnation = state_.incarnation();
  welcome.heartbeat = settings_.heartbeat;
  welcome.liveness = settings_.liveness;
  welcome.max_job_size = settings_.max_job_size;
  welcome.window_jobs = settings_.window_jobs;
  welcome.window_bytes = settings_.window_bytes;
  welcome.durability = settings_.durability;
  welcome.lease = settings_.lease;
  welcome.stale = std::move(stale);
  send(session, std::move(welcome), out);
}

void Core::tick(Now now, Output& out) {
  now_ = now;
  tick_clock(out);
  if (now.mono >= next_tick_) tick_peers(out);
  // After leases that end: a job whose time to live was over meanwhile is not leased again.
  tick_due(out);
  tick_expiries(out);
  tick_recalls(out);
  let_results_go(out);
}

void Core::tick_peers(Output& out) {
  late_ = now_.mono - next_tick_;
  next_tick_ = now_.mono + settings_.heartbeat / 4;
  tick_sessions(out);
  tick_rate();
  tick_submit_rates();
  tick_queues();
  if (grace_ends_) {
    *grace_ends_ += late_;
    next_grace_period_ += late_;
  }
  while (grace_ends_ && now_.mono >= next_grace_period_) {
    if (next_grace_period_ >= *grace_ends_) grace_ends_.reset();
    next_grace_period_ += grace_period();
    end_grace_period(out);
  }
  tick_leases(out);
}

void Core::tick_sessions(Output& out) {
  std::vector<SessionId> silent;
  for (auto& [id, session] : sessions_) {
    session.last_received = std::min(session.last_received + late_, now_.mono);
    if (now_.mono - session.last_received > settings_.heartbeat * settings_.liveness) {
      silent.push_back(id);
    } else if (now_.mono - session.last_sent >= settings_.heartbeat * 3 / 4) {
      send(session, protocol::Heartbeat{}, out, true);
    }
  }
  std::sort(silent.begin(), silent.end());  // the order must not depend on a hash table
  size_t looked_at = 0;
  for (SessionId id : silent) {
    if (looked_at >= kMaxLeasesOfWorker) {
      next_tick_ = now_.mono;  // the rest in the next round
      break;
    }
    const Session& session = sessions_.at(id);
    looked_at += 1 + (session.is_worker ? state_.leases_of(session.worker) : 0);
    close_session(id, records::ReturnReason::lost, out);
  }
}

// A retry waits for its backoff, not for a date: where the wall clock was ahead when it failed, it
// would wait for as long as that was.
void Core::tick_clock(Output& out) {
  const Millis wall = now_.wall - ticked_.wall,
               mono = std::chrono::duration_cast<Millis>(now_.mono - ticked_.mono);
  ticked_ = now_;
  if (wall - mono < -kClockStep) clock_went_back_ = true;
  if (!std::exchange(clock_went_back_, false)) return;
  records::Due due;
  for (auto at = state_.due().rbegin(); at != state_.due().rend() && !clock_went_back_; ++at) {
    const auto& [when, id] = *at;
    const Job& job = *state_.find(id);
    const Millis own = state_.queues()[job.queue].settings.backoff_max;
    if (when <= now_.wall) break;
    if (job.state != JobState::retry_wait ||
        when <= now_.wall + std::max(own, settings_.backoff_max))
      continue;
    due.runs.push_back({id, 1});
    clock_went_back_ = due.runs.size() == kTimersPerTick;  // the rest in the next round
  }
  if (!due.runs.empty()) emit(std::move(due), out);
}

void Core::tick_due(Output& out) {
  records::Due due;
  for (const auto& [when, job] : state_.due()) {
    if (when > now_.wall || due.runs.size() == kTimersPerTick) break;
    due.runs.push_back({job, 1});
  }
  if (!due.runs.empty()) emit(std::move(due), out);
}

void Core::tick_expiries(Output& out) {
  records::Expired expired;
  for (const auto& [when, id] : state_.expiries()) {
    if (when > now_.wall || expired.runs.size() == kTimersPerTick) break;
    expired.runs.push_back({id, 1});
    report(id, *state_.find(id), JobState::expired, "", "");
  }
  if (!expired.runs.empty()) emit(std::move(expired), out);
}

void Core::let_results_go(Output& out) {
  auto surplus = state_.surplus_results(now_.wall);
  if (!surplus.empty()) emit(records::Collected{std::move(surplus)}, out);
}

// How fast jobs end, for the time that a REJECT names.
void Core::tick_rate() {
  const double seconds = std::chrono::duration<double>(now_.mono - measured_).count();
  if (seconds < 0.2) return;
  const records::Counts& counts = state_.counts();
  const uint64_t ended = counts.done + counts.cancelled + counts.expired;
  const double rate = double(ended - std::min(ended, ended_before_)) / seconds;
  drain_rate_ = 0.7 * drain_rate_ + 0.3 * rate;
  ended_before_ = ended;
  measured_ = now_.mono;
}

void Core::tick_leases(Output& out) {
  LostLeases expired;
  std::unordered_map<WorkerIndex, Epoch> started;
  for (JobId job : state_.leases().take_due(now_.mono - late_, kLeasesPerTick)) {
    const LeaseInfo& lease = *state_.lease_of(job);
    if (grace_ends_ && !state_.is_pinned(lease.worker)) {
      state_.leases().extend(job, now_.mono);  // its worker may still come back
    } else {
      auto [up_to, is_new] = started.try_emplace(lease.worker);
      if (is_new) up_to->second = last_started(lease.worker);
      expired.add({job, lease.epoch}, up_to->second);
    }
  }
  charge(expired, records::ReturnReason::expired, "", out);
}

// Workers that held leases when the broker stopped and have not come back have one period more
// behind them: one in which the broker was there. The window is over for those that have had all of
// them, in this start and in those before it, and for all when this start's is over.
void Core::end_grace_period(Output& out) {
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
  if (!changed.workers.empty()) emit(std::move(changed), out);
  charge(orphans, records::ReturnReason::lost, "", out);
}

Mono Core::wake_at(Now now) const {
  if (more_to_grant_ || to_match_ > 0 || has_answers_to_go_on_with()) return now.mono;
  Mono wake = next_tick_;
  if (may_recall()) wake = std::min(wake, next_recall_);
  if (!draining_ && !throttled_.empty()) wake = std::min(wake, throttled_.begin()->first);
  for (const auto* timers : {&state_.due(), &state_.expiries()}) {
    if (timers->empty()) continue;
    Millis wait = std::clamp(std::chrono::duration_cast<Millis>(timers->begin()->first - now.wall),
                             Millis(0), settings_.heartbeat);
    wake = std::min(wake, now.mono + wait);
  }
  return wake;
}

}  // namespace millrace::core
