#include "worker/run/connection.h"

#include <fmt/format.h>

#include "common/base/time.h"
#include "common/os/log.h"
#include "common/protocol/codec.h"

namespace millrace::worker {

namespace {

// A LEASE may be as large as the broker allows a job to be, which is known only from its WELCOME.
constexpr size_t kMaxFrame = size_t{1} << 30;
// What a BYE gets to reach the broker in when the process ends right behind it.
constexpr int kByeLingerMs = 500;
const protocol::FromClient kHeartbeat = protocol::Heartbeat{};

SessionSettings session_settings(const RunOptions& options, Source source, size_t threads) {
  SessionSettings settings{Uuid::random(),   options.name,   {},    threads,
                           options.prefetch, options.labels, source};
  for (const QueueSpec& spec : options.queues) settings.queues.push_back(spec.queue);
  return settings;
}

}  // namespace

Connection::Connection(const RunOptions& options, Source source, zmq::context_t& context,
                       Pool& pool)
    : broker_(options.brokers[source]),
      keys_(options.keys.empty() ? std::nullopt : options.keys[source]),
      source_(source),
      context_(context),
      pool_(pool),
      link_(random_session().value, {}),
      resolver_(broker_.host),
      session_(session_settings(options, source, pool.threads())) {}

Result<void> Connection::advance(Mono now) {
  switch (link_.next(now)) {
    case Link::Step::none:
      break;
    case Link::Step::open:
      dealer_.reset();
      is_opening_ = true;
      break;
    case Link::Step::close:
      close();
      break;
    case Link::Step::heartbeat:
      send(encode(link_.session(), kHeartbeat));
      break;
  }
  if (is_opening_)
    if (auto opened = open(now); !opened) return opened;
  Output out;
  session_.tick(now, &out);
  apply(std::move(out));
  return {};
}

Result<void> Connection::begin_anew(Mono now) {
  link_.lost(now);
  auto advanced = advance(now);  // closes the session: nothing of it is read or answered any more
  give_back_waiting();
  return advanced;
}

Mono Connection::wake_at() const {
  const Mono wake = std::min(link_.wake_at(), session_.wake_at());
  return is_opening_ ? std::min(wake, read_clock() + Resolver::kPollEvery) : wake;
}

// Once the broker's address is known.
Result<void> Connection::open(Mono now) {
  auto address = resolver_.poll();
  if (!address) return {};
  is_opening_ = false;
  if (!*address) {
    unresolved_ = address->error().message;
    link_.lost(now);
    return {};
  }
  unresolved_.reset();
  const Endpoint numeric{**address, broker_.port};
  auto dealer = Dealer::open(context_, numeric.uri(), kMaxFrame, keys_, source_);
  if (!dealer) return dealer.error();
  dealer_.emplace(*std::move(dealer));
  Output out;
  session_.opened(link_.session(), &out);
  apply(std::move(out));
  return {};
}

void Connection::close() {
  dealer_.reset();
  if (std::exchange(is_opening_, false)) unresolved_ = resolver_.still_pending().message;
  bool was_connected = session_.welcomed();
  session_.closed();
  // One line for each loss, not for each attempt that finds nobody.
  if (was_connected) {
    log_warning(
        "broker lost, trying again",
        {{"broker", broker()}, {"held", session_.held()}, {"unconfirmed", session_.unconfirmed()}});
  } else if (link_.attempts() == 1) {
    log_warning("broker does not answer, trying again",
                {{"broker", broker()}, {"why", unresolved_.value_or("no answer")}});
  }
}

void Connection::add_to(std::vector<zmq::pollitem_t>* items) {
  if (!dealer_) return;
  items->push_back({dealer_->socket().handle(), 0, ZMQ_POLLIN, 0});
  items->push_back({dealer_->handshakes().handle(), 0, ZMQ_POLLIN, 0});
}

// It may let this worker in later: its list has changed, or another broker stands there.
void Connection::on_connection_rejected() {
  auto why = dealer_ ? dealer_->refusal() : std::nullopt;
  if (!why) return;
  Mono now = read_clock();
  link_.lost(now);
  refused_ = std::move(why);
  if (auto held_back = refusals_.admit(now))
    log_warning("the broker refuses the connection",
                {{"broker", broker()}, {"why", *refused_}, {"not_logged", *held_back}});
}

void Connection::receive() {
  on_connection_rejected();
  Mono now = read_clock();
  zmq::message_t message;
  for (int i = 0; i < kFramesPerTurn && dealer_ && dealer_->receive(message); ++i)
    on_frame(std::make_shared<zmq::message_t>(std::move(message)), now);
  if (dealer_ && dealer_->cut()) link_.lost(now);
}

void Connection::on_frame(std::shared_ptr<zmq::message_t> frame, Mono now) {
  auto decoded = protocol::decode_from_broker(view(*frame));
  if (auto* fault = std::get_if<protocol::Fault>(&decoded)) {
    if (auto held_back = bad_frames_.admit(now)) {
      log_warning("a frame that is not a broker message",
                  {{"broker", broker()}, {"why", fault->message}, {"more", *held_back}});
    }
    return;
  }
  auto& envelope = std::get<protocol::Envelope<protocol::FromBroker>>(decoded);
  bool error = std::holds_alternative<protocol::ErrorReply>(envelope.message);
  if (envelope.session != link_.session() && !(error && envelope.session == SessionId{})) return;
  link_.received(now);
  on_message(envelope.message, std::move(frame), now);
}

void Connection::on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now) {
  if (std::holds_alternative<protocol::Reregister>(message)) return link_.lost(now);
  if (auto* error = std::get_if<protocol::ErrorReply>(&message)) return on_error(*error, now);
  auto* welcome = std::get_if<protocol::Welcome>(&message);
  if (welcome && session_.welcomed()) return;
  if (welcome) {
    link_.welcomed(now, welcome->heartbeat, welcome->liveness);
    ever_connected_ = true;
    refused_.reset();
  }
  Output out;
  session_.received(message, frame, now, &out);
  apply(std::move(out));
  if (welcome) {
    log_info("connected", {{"to", broker()},
                           {"broker", fmt::format("{:08x}", welcome->broker.value)},
                           {"incarnation", welcome->incarnation},
                           {"held", session_.held()},
                           {"stale", welcome->stale.size()}});
  }
}

void Connection::on_error(const protocol::ErrorReply& error, Mono now) {
  if (auto held_back = errors_.admit(now))
    log_error("the broker refuses a message", {{"broker", broker()},
                                               {"code", error.code},
                                               {"message", error.message},
                                               {"not_logged", *held_back}});
  // The others may be over soon: it begins again, with the pauses of a lost connection.
  if (error.code == "revoked" || error.code == "not_yours" || error.code == "too_many_sessions")
    link_.lost(now);
}

void Connection::completed(std::vector<Finished> ends) {
  Output out;
  session_.completed(std::move(ends), &out);
  apply(std::move(out));
}

void Connection::set_threads(uint64_t threads) {
  Output out;
  session_.set_threads(threads, &out);
  apply(std::move(out));
}

void Connection::set_limit(uint64_t jobs) {
  Output out;
  session_.set_limit(jobs, &out);
  apply(std::move(out));
}

void Connection::drain() {
  Output out;
  session_.drain(pool_.take_waiting(source_), &out);
  apply(std::move(out));
}

void Connection::give_back_waiting() { give_back(pool_.take_waiting(source_)); }

void Connection::give_back(const std::vector<protocol::Lease>& unstarted) {
  Output out;
  session_.give_back(unstarted, &out);
  apply(std::move(out));
}

void Connection::give_up() {
  Output out;
  session_.give_up(&out);
  apply(std::move(out));
}

void Connection::say_bye() {
  if (!dealer_ || !session_.welcomed()) return;
  send(session_.bye());
  dealer_->socket().set(zmq::sockopt::linger, kByeLingerMs);
}

void Connection::apply(Output out) {
  if (out.above_credit > 0) {
    if (auto held_back = above_credit_.admit(read_clock()))
      log_warning("the broker leases more jobs than this worker has asked for: returning them",
                  {{"broker", broker()}, {"jobs", out.above_credit}, {"not_logged", *held_back}});
  }
  for (std::string& frame : out.frames) send(std::move(frame));
  if (!out.start.empty()) pool_.submit(std::move(out.start));
  pool_.forget(out.forget, source_);
  if (!out.recall.empty()) give_back(pool_.take(out.recall, source_));
}

void Connection::send(std::string frame) {
  Mono now = read_clock();
  if (dealer_ && dealer_->send(std::move(frame))) return link_.sent(now);
  link_.lost(now);
}

}  // namespace millrace::worker
