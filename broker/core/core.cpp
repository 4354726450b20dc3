#include "broker/core/core.h"

#include <algorithm>

namespace millrace::core {

using records::ReturnReason;

namespace {

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

Core::Core(Settings settings, uint64_t seed) : context_(settings, seed) {}

std::optional<std::string> Core::replay(const Record& record, Now now) {
  if (auto problem = context_.state.check(record)) return problem;
  context_.state.apply(record, now.mono);
  return std::nullopt;
}

void Core::begin(Now now, BrokerId new_broker, Output& out) {
  context_.now = now;
  State& state = context_.state;
  if (state.broker() == BrokerId{}) state.set_broker(new_broker);
  checkpoint(out);
  context_.emit(records::Started{state.incarnation() + 1, now.wall, next_first_epoch()}, out);
  next_tick_ = now.mono + context_.settings.heartbeat / 4;
  submissions_.begin();
  recalls_.begin();
  timers_.begin();
  leases_.begin();
}

// Above all that were given out, also above those whose records a power cut took from a journal
// that is not synced. One that version 1 brought near to 2^53 begins anew as soon as no job has an
// epoch.
Epoch Core::next_first_epoch() const {
  const State& state = context_.state;
  const Epoch next = state.next_epoch();
  if (next == Epoch{} || (next >= kHighEpoch && !state.knows_epochs())) return {1};
  return {next.value + kEpochSkip};
}

// It lengthens no history, so the trimming that a lower limit asks for comes behind what follows:
// Started.
void Core::checkpoint(Output& out) { context_.put(context_.state.checkpoint(), out); }

void Core::relocate(JobId job, std::string_view payload, Output& out) {
  const State& state = context_.state;
  if (state.result_of(job)) return context_.emit(state.kept(job), out);
  records::Relocated record = state.relocated(job);
  record.payload = payload;
  context_.emit(std::move(record), out);
}

void Core::receive(Now now, Route route, const protocol::Envelope<protocol::FromClient>& envelope,
                   Output& out, KeyId key) {
  context_.now = now;
  context_.work += work_of(envelope.message);  // they were decoded, whoever sent them
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

  Session* session = sessions_.find(id);
  // What a peer missed may have been a CONFIRM, a LEASE or a DONE_OK: only a new session makes that
  // good.
  const bool is_known =
      session && session->route == route && session->key == key &&
      (session->reachable || std::holds_alternative<protocol::Bye>(envelope.message));
  if (!is_known) {
    out.sends.push_back({route, id, protocol::Reregister{}, true});
    return;
  }
  session->last_received = now.mono;
  if (session->takeover) session->takeover->is_answered = true;
  handle(*session, envelope.message, out);
}

void Core::handle(Session& session, const protocol::FromClient& message, Output& out) {
  std::visit(
      [&](const auto& body) {
        using T = std::decay_t<decltype(body)>;
        if constexpr (requires { submissions_.on(session, body, out); }) {
          submissions_.on(session, body, out);
        } else if constexpr (requires { answers_.on(session, body, out); }) {
          answers_.on(session, body, out);
        } else if constexpr (requires { leases_.on(session, body, out); }) {
          leases_.on(session, body, out);
        } else if constexpr (std::is_same_v<T, protocol::Bye>) {
          if (!session.is_worker) context_.emit(records::ProducerGone{session.peer}, out);
          close_session(session.id, ReturnReason::released, out);
        } else {  // a HEARTBEAT has done what it is for; the others were handled before
          static_assert(std::is_same_v<T, protocol::Heartbeat> ||
                        std::is_same_v<T, protocol::Hello> ||
                        std::is_same_v<T, protocol::Register>);
        }
      },
      message);
}

bool Core::is_decided(Now now, SessionId older, SessionId newer, bool all_read) {
  context_.now = now;
  return sessions_.is_decided(older, newer, all_read);
}

void Core::open_producer(Route route, KeyId key, SessionId id, const protocol::Hello& message,
                         Output& out) {
  if (sessions_.contest(route, key, id, message.producer, out)) return;
  if (auto why = sessions_.why_not_open(route, key, id, message.producer))
    return refuse(route, *why, out);
  if (const Session* older = sessions_.of_peer(message.producer))
    close_session(older->id, ReturnReason::released, out);
  if (key != KeyId{}) context_.state.producers().set_key(message.producer, key);
  close_session(id, ReturnReason::never_arrived, out);
  sessions_.send_welcome(sessions_.open(route, key, id, message.producer), {}, out);
}

void Core::open_worker(Route route, KeyId key, SessionId id, const protocol::Register& message,
                       Output& out) {
  if (sessions_.contest(route, key, id, message.worker, out)) return;
  if (auto why = sessions_.why_not_open(route, key, id, message.worker))
    return refuse(route, *why, out);
  // The same process again: what it still holds it claims, so nothing is returned here.
  if (const Session* older = sessions_.of_peer(message.worker))
    close_session(older->id, ReturnReason::never_arrived, out);
  if (!queues_.may_subscribe(message.queues.size()))
    return refuse(route,
                  {id, "too_many_subscriptions",
                   "the workers of this broker already subscribe to too many queues by name; "
                   "subscribe to a prefix, as tenant.*"},
                  out);
  close_session(id, ReturnReason::never_arrived, out);
  Session& session = sessions_.open(route, key, id, message.worker);
  session.is_worker = true;
  session.name = message.name;
  session.labels.assign(message.labels.begin(), message.labels.end());
  session.threads = message.threads;
  session.last_suspect = context_.now.mono;
  session.worker = context_.state.pin_worker(message.worker);
  if (context_.state.absent().contains(message.worker))
    context_.emit(records::Absent{{{message.worker, 0}}}, out);
  queues_.subscribe(session, message.queues);
  sessions_.send_welcome(session, leases_.adopt_claims(session, message.claims, out), out);
}

// The one way in which a peer is gone: it said BYE (released), fell silent (lost), or came again.
void Core::close_session(SessionId id, ReturnReason reason, Output& out) {
  std::optional<Session> session = sessions_.close(id);
  if (!session) return;
  answers_.forget(*session);
  if (!session->is_worker) return;
  queues_.unsubscribe(*session);
  leases_.close(*session, reason, out);
  context_.state.unpin_worker(session->worker);
}

void Core::unreachable(SessionId id) {
  if (Session* session = sessions_.find(id)) session->reachable = false;
}

void Core::unreachable(Route route) {
  for (SessionId id : sessions_.on(route)) sessions_.at(id).reachable = false;
}

std::vector<SessionId> Core::expel(Now now, Route route, Output& out) {
  context_.now = now;
  std::vector<SessionId> gone = sessions_.on(route);
  std::sort(gone.begin(), gone.end());
  for (SessionId id : gone) close_session(id, ReturnReason::lost, out);
  return gone;
}

void Core::tick(Now now, Output& out) {
  context_.now = now;
  timers_.tick_clock(out);
  if (now.mono >= next_tick_) tick_peers(out);
  // After leases that end: a job whose time to live was over meanwhile is not leased again.
  timers_.tick(out);
  recalls_.tick(out);
  timers_.evict_results(out);
}

// Where it comes later than it was due, this process did not run for so long.
void Core::tick_peers(Output& out) {
  const Mono now = context_.now.mono;
  const Mono::duration late = now - next_tick_;
  next_tick_ = now + context_.settings.heartbeat / 4;
  size_t looked_at = 0;
  for (SessionId id : sessions_.tick(late, out)) {
    if (looked_at >= kMaxLeasesOfWorker) {
      next_tick_ = now;  // the rest in the next round
      break;
    }
    const Session& session = sessions_.at(id);
    looked_at += 1 + (session.is_worker ? context_.state.leases_of(session.worker) : 0);
    close_session(id, ReturnReason::lost, out);
  }
  submissions_.tick();
  queues_.tick();
  leases_.tick(late, out);
}

// Reports and answers go before grants: they are about what the round's messages did.
void Core::dispatch(Now now, Output& out) {
  context_.now = now;
  outcomes_.flush(out);
  answers_.advance(out);
  queues_.match_some();
  dispatcher_.dispatch(out);
}

Mono Core::wake_at(Now now) const {
  if (dispatcher_.has_more() || queues_.has_more_to_match() || answers_.has_more()) return now.mono;
  Mono wake = next_tick_;
  if (auto recall = recalls_.wake_at()) wake = std::min(wake, *recall);
  if (auto rate = dispatcher_.wake_at()) wake = std::min(wake, *rate);
  return timers_.wake_at(now, wake);
}

uint64_t Core::cancel(Now now, const std::vector<JobRange>& jobs, Output& out) {
  context_.now = now;
  return operations_.cancel(jobs, out);
}

const BulkOperation* Core::start(Now now, BulkRequest request) {
  context_.now = now;
  return operations_.start(std::move(request));
}

void Core::advance_operations(Now now, Output& out) {
  context_.now = now;
  operations_.advance(out);
}

void Core::set_queue(Now now, std::string_view queue, const records::QueueSettings& settings,
                     Output& out) {
  context_.now = now;
  queues_.set(queue, settings, out);
}

void Core::delete_queue(Now now, QueueIndex queue, Output& out) {
  context_.now = now;
  queues_.remove(queue, out);
}

std::vector<Held> Core::held() const {
  std::vector<Held> all = context_.state.held();
  all.push_back(outcomes_.held());
  all.push_back(sessions_.held());
  all.push_back({"subscriptions", subscriptions_.count(), subscriptions_.memory_bytes()});
  all.push_back(answers_.held());
  all.push_back(operations_.held());
  all.push_back(submissions_.held());
  return all;
}

}  // namespace millrace::core
