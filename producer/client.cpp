#include "producer/client.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"

namespace millrace::producer {
namespace {

using namespace protocol;

// How long close() waits for the BYE to leave.
constexpr Millis kGoodbye{500};
// zmq_poll takes an int of milliseconds.
constexpr Millis kLongestWait{60'000};

Mono read_clock() { return std::chrono::steady_clock::now(); }

Millis until_in(Mono at, Mono now) {
  if (at <= now) return Millis(0);
  return std::min(std::chrono::ceil<Millis>(std::min(at - now, Mono::duration(kLongestWait))),
                  kLongestWait);
}

}  // namespace

Client::Client(ClientOptions options, Listener& listener)
    : options_(std::move(options)),
      listener_(listener),
      context_(1),
      link_(random_session().value, Link::Timing{}),
      now_(read_clock()),
      give_up_at_(now_ + options_.connect_timeout) {
  session_.emplace(options_.session, static_cast<Listener&>(*this));
}

Result<std::unique_ptr<Client>> Client::open(ClientOptions options, Listener& listener) {
  auto client = std::unique_ptr<Client>(new Client(std::move(options), listener));
  const ClientOptions& kept = client->options_;
  auto curve = kept.curve.read_one();
  if (!curve) return curve.error();
  client->curve_ = *std::move(curve);
  if (kept.ledger.empty()) return client;
  auto ledger = Ledger::open(kept.ledger, kept.session.producer, kept.resumed);
  if (!ledger) return ledger.error();
  client->ledger_.emplace(*std::move(ledger));
  return client;
}

Result<void> Client::poll(Mono until, int extra_fd) {
  now_ = read_clock();
  if (auto done = keep_connection(); !done) return done;
  if (auto done = send_pending(); !done) return done;
  if (!session_->knows_broker()) until = std::min(until, give_up_at_);
  until = std::min({until, link_.wake_at(), session_->wake_at()});
  Polled polled = millrace::poll(dealer_ ? &*dealer_ : nullptr, extra_fd, until_in(until, now_));
  now_ = read_clock();
  if (polled.handshake) {
    if (auto done = heed_refusal(); !done) return done;
  }
  if (polled.message) {
    if (auto done = receive_all(); !done) return done;
  }
  return send_pending();
}

void Client::close() {
  if (!dealer_) return;
  if (link_.connected() && session_->unanswered() == 0) {
    dealer_->linger(kGoodbye);
    if (!dealer_->send(encode(link_.session(), FromClient(Bye{})))) dealer_->linger(Millis(0));
  }
  dealer_.reset();
}

// ---- the connection

Result<void> Client::keep_connection() {
  if (!session_->knows_broker() && now_ >= give_up_at_) return unreachable();
  for (;;) {
    switch (link_.next(now_)) {
      case Link::Step::none:
        return {};
      case Link::Step::open:
        if (auto done = connect(); !done) return done;
        break;
      case Link::Step::close:
        drop_connection();
        break;
      case Link::Step::heartbeat:
        if (!dealer_->send(encode(link_.session(), FromClient(Heartbeat{})))) link_.lost(now_);
        break;
    }
  }
}

Result<void> Client::connect() {
  dealer_.reset();
  auto dealer = Dealer::open(context_, options_.broker.uri(), kMaxFrame, curve_);
  if (!dealer) return dealer.error();
  dealer_.emplace(*std::move(dealer));
  // A new socket has room for its first message.
  MILLRACE_CHECK(dealer_->send(encode(link_.session(), FromClient(session_->hello()))));
  log_debug("connecting", {{"broker", options_.broker.uri()}, {"attempt", link_.attempts()}});
  return {};
}

void Client::drop_connection() {
  if (session_->knows_broker()) {
    log_warning("lost the broker, trying again",
                {{"broker", options_.broker.uri()}, {"unanswered", session_->unanswered()}});
  }
  session_->lost();
  dealer_.reset();
}

// Who was let in before may be again: the broker's list has changed, or another one stands there.
Result<void> Client::heed_refusal() {
  auto why = dealer_->refusal();
  if (!why) return {};
  if (!session_->knows_broker())
    return Error{ExitCode::unavailable, fmt::format("the broker at {} refuses the connection: {}",
                                                    options_.broker.authority(), *why)};
  link_.lost(now_);
  if (auto held_back = refusals_.admit(now_))
    log_warning("the broker refuses the connection",
                {{"broker", options_.broker.uri()}, {"why", *why}, {"not_logged", *held_back}});
  return {};
}

Error Client::unreachable() const {
  return {ExitCode::unavailable,
          fmt::format(
              "no broker answers at {} within {}: is 'millrace-broker serve' running there, with "
              "--frontend on that port?",
              options_.broker.authority(), format_duration(options_.connect_timeout))};
}

// ---- messages

Result<void> Client::send_pending() {
  ProducerSession::Frames frames;
  if (link_.connected()) session_->flush(now_, link_.session(), &frames);
  if (ledger_) {
    if (auto written = ledger_->write(); !written) return written;
  }
  if (!frames.empty() && options_.before_send) {
    if (auto done = options_.before_send(); !done) return done;
  }
  for (std::string& frame : frames) {
    if (dealer_->send(std::move(frame))) continue;
    link_.lost(now_);
    return {};
  }
  if (!frames.empty()) link_.sent(now_);
  return {};
}

Result<void> Client::receive_all() {
  zmq::message_t message;
  for (size_t i = 0; i < kMessagesPerTurn && dealer_ && dealer_->receive(message); ++i) {
    if (auto done = take(view(message)); !done) return done;
  }
  return {};
}

Result<void> Client::take(std::string_view frame) {
  auto decoded = decode_from_broker(frame);
  if (auto* fault = std::get_if<Fault>(&decoded)) {
    log_warning(
        "a message that is none of a broker's",
        {{"from", options_.broker.uri()}, {"bytes", frame.size()}, {"why", fault->message}});
    return {};
  }
  auto& envelope = std::get<0>(decoded);
  bool about_us = envelope.session == link_.session();
  if (auto* reply = std::get_if<ErrorReply>(&envelope.message);
      reply && (about_us || envelope.session.value == 0))
    return refused(*reply);
  if (!about_us) return {};
  link_.received(now_);
  return take(envelope.message);
}

Result<void> Client::take(const FromBroker& message) {
  if (auto* hello_back = std::get_if<Welcome>(&message)) {
    welcome(*hello_back);
  } else if (std::holds_alternative<Reregister>(message)) {
    link_.lost(now_);
  } else if (link_.connected()) {
    session_->received(now_, message);
  }
  return {};
}

void Client::welcome(const Welcome& message) {
  if (link_.connected()) return;
  bool again = session_->knows_broker();
  link_.welcomed(now_, message.heartbeat, message.liveness);
  if (!link_.connected()) return;  // of a session that was given up meanwhile
  if (again && session_->broker() != message.broker) {
    log_warning(
        "another broker answers at this address; what the first confirmed is not there",
        {{"broker", options_.broker.uri()}, {"id", fmt::format("{:08x}", message.broker.value)}});
  }
  session_->welcomed(message);
  LogFields fields{{"broker", options_.broker.uri()},
                   {"id", fmt::format("{:08x}", message.broker.value)}};
  if (again) {
    log_info("connected again", fields);
  } else {
    log_debug("connected", fields);
  }
}

Error Client::refused(const ErrorReply& reply) const {
  std::string where = options_.broker.authority();
  if (reply.code == "wrong_port") {
    return {ExitCode::unavailable,
            fmt::format(
                "{} is the broker's port for workers; producers connect to its --frontend, port {} "
                "unless it was told otherwise",
                where, kFrontendPort)};
  }
  if (reply.code == "version") {
    return {
        ExitCode::unavailable,
        fmt::format(
            "the broker at {} speaks another version of the protocol ({}); use a producer of its "
            "release",
            where, reply.message)};
  }
  if (reply.code == "revoked")
    return {
        ExitCode::unavailable,
        fmt::format("the broker at {} has taken this --curve-key off its list; 'millrace-broker "
                    "keys add' puts it back",
                    where)};
  return {
      ExitCode::bug,
      fmt::format("the broker at {} refused a message as {}: {}; this is a bug, please report it",
                  where, reply.code, reply.message)};
}

// ---- events

void Client::sent(const Sent& event) {
  if (ledger_) ledger_->sent(event);
  listener_.sent(event);
}

void Client::confirmed(const Confirmed& event) {
  if (ledger_) ledger_->confirmed(event);
  listener_.confirmed(event);
}

void Client::rejected(const Rejected& event) {
  if (ledger_) ledger_->rejected(event);
  listener_.rejected(event);
}

}  // namespace millrace::producer
