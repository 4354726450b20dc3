#include "common/net/client_connection.h"

#include <fmt/format.h>

#include "common/base/check.h"
#include "common/os/log.h"

namespace millrace {

using namespace protocol;

ClientConnection::ClientConnection(Options options, SocketOpener open_socket)
    : options_(std::move(options)),
      open_socket_(std::move(open_socket)),
      link_(random_session().value, {}),
      resolver_(options_.broker.host, options_.look_up) {}

Result<ClientConnection::Step> ClientConnection::advance(Mono now) {
  for (;;) {
    if (is_resolving_) {
      auto opened = open(now);
      if (!opened) return opened.error();
      if (*opened) return Step::opened;
    }
    switch (link_.next(now)) {
      case Link::Step::none:
        return Step::none;
      case Link::Step::open:
        is_resolving_ = true;
        break;
      case Link::Step::close:
        return drop();
      case Link::Step::heartbeat:
        send(encode(session(), FromClient(Heartbeat{})), now);
        break;
    }
  }
}

// Once the broker's address is known.
Result<bool> ClientConnection::open(Mono now) {
  auto address = resolver_.poll();
  if (!address) {
    poll_at_ = now + Resolver::kPollEvery;
    return false;
  }
  is_resolving_ = false;
  if (!*address) {
    unresolved_ = address->error();
    link_.lost(now);
    return false;
  }
  unresolved_.reset();
  auto socket = open_socket_(Endpoint{**address, broker().port}.uri());
  if (!socket) return socket.error();
  socket_ = *std::move(socket);
  log_debug("connecting", {{"broker", broker().uri()}, {"attempt", link_.attempts()}});
  return true;
}

ClientConnection::Step ClientConnection::drop() {
  socket_.reset();
  if (std::exchange(is_resolving_, false)) unresolved_ = resolver_.still_pending();
  if (std::exchange(was_welcomed_, false)) return Step::lost;
  // Once, not for each attempt.
  if (link_.attempts() == 1 && !refusal_ && !options_.caller_reports)
    log_warning("the broker does not answer, trying again",
                {{"broker", broker().uri()},
                 {"why", unresolved_ ? unresolved_->message : std::string("no answer")}});
  return Step::unanswered;
}

Mono ClientConnection::wake_at() const {
  return is_resolving_ ? std::min(link_.wake_at(), poll_at_) : link_.wake_at();
}

bool ClientConnection::send(std::string frame, Mono now) {
  const bool is_sent = socket_ && !link_.is_down() && socket_->send(std::move(frame));
  if (is_sent) {
    link_.sent(now);
  } else {
    link_.lost(now);
  }
  return is_sent;
}

void ClientConnection::add_to(std::vector<zmq::pollitem_t>* items) {
  items_at_ = items->size();
  if (socket_) socket_->add_to(items);
}

void ClientConnection::receive(const std::vector<zmq::pollitem_t>& items, Mono now,
                               const OnMessage& on_message) {
  if (!socket_) return;
  MILLRACE_CHECK(items_at_ + 2 <= items.size());
  const auto ready = [&](size_t index) { return items[items_at_ + index].revents & ZMQ_POLLIN; };
  if (ready(1)) on_handshake_rejected(now);
  const bool is_cut = socket_->cut(), is_readable = ready(0) || is_cut;
  zmq::message_t message;
  for (size_t i = 0; is_readable && (i < kFramesPerTurn || is_cut); ++i) {
    if (link_.is_down() || !socket_->receive(message)) break;
    on_frame(std::make_shared<zmq::message_t>(std::move(message)), now, on_message);
  }
  if (is_cut) link_.lost(now);
}

void ClientConnection::on_frame(const Frame& frame, Mono now, const OnMessage& on_message) {
  const auto decoded = decode_from_broker(view(*frame));
  if (auto* fault = std::get_if<Fault>(&decoded)) {
    if (auto not_logged = bad_frames_.admit(now))
      log_warning("a frame that is not a broker message", {{"broker", broker().uri()},
                                                           {"bytes", frame->size()},
                                                           {"why", fault->message},
                                                           {"not_logged", *not_logged}});
    return;
  }
  const auto& [of, message] = std::get<Envelope<FromBroker>>(decoded);
  const auto* error = std::get_if<ErrorReply>(&message);
  const bool is_ours = of == session();
  if (!is_ours && !(error && of == SessionId{})) return;
  if (is_ours) link_.received(now);
  if (std::holds_alternative<Heartbeat>(message)) link_.asked();
  if (std::holds_alternative<Reregister>(message)) return link_.lost(now);
  if (error && on_refused(*error, now)) return;
  if (auto* welcome = std::get_if<Welcome>(&message); welcome && !on_welcome(*welcome, now)) return;
  if (connected() || error) on_message(message, frame);
}

// False: the session has its WELCOME already.
bool ClientConnection::on_welcome(const Welcome& welcome, Mono now) {
  if (connected()) return false;
  link_.welcomed(now, welcome.heartbeat, welcome.liveness);
  was_welcomed_ = ever_connected_ = true;
  refusal_.reset();
  in_use_at_.reset();
  return true;
}

// ---- refusals

// A broker that has accepted this client before may do so again: its list of keys has changed, or
// another broker listens there.
void ClientConnection::on_handshake_rejected(Mono now) {
  if (auto why = socket_->refusal()) refuse(ExitCode::unavailable, *why, !ever_connected_, now);
}

bool ClientConnection::on_refused(const ErrorReply& error, Mono now) {
  const Role& role = options_.role;
  std::string why;
  bool for_good = true;
  if (error.code == "wrong_port") {
    why = fmt::format(
        "this is its port for {}s; {}s connect to its {}, port {} unless configured otherwise",
        role.other_name, role.name, role.port_flag, role.port);
  } else if (error.code == "version") {
    why = fmt::format("it speaks another version of the protocol ({}); use a {} of its release",
                      error.message, role.name);
  } else if (error.code == "revoked") {
    why = "it has removed this --curve-key from its list; 'millrace-broker keys add' puts it back";
  } else if (error.code == "not_yours" || error.code == "too_many_sessions") {
    why = error.message;
    for_good = false;
    if (error.code == "not_yours" && error.about && error.about->kind == About::Kind::broker)
      in_use_at_ = BrokerId{uint32_t(error.about->number)};
  } else {
    return false;
  }
  refuse(ExitCode::unavailable, why, for_good, now);
  return true;
}

void ClientConnection::refuse(ExitCode code, const std::string& why, bool for_good, Mono now) {
  refusal_ = {
      {code, fmt::format("the broker at {} refuses the connection: {}", broker().authority(), why)},
      for_good};
  link_.lost(now);
  if (for_good && options_.caller_reports) return;
  if (auto not_logged = refusals_.admit(now))
    log_warning("the broker refuses the connection, trying again",
                {{"broker", broker().uri()}, {"why", why}, {"not_logged", *not_logged}});
}

void ClientConnection::say_bye() {
  if (!connected()) return;
  socket_->linger(kShutdownGrace);
  if (!socket_->send(encode(session(), FromClient(Bye{})))) socket_->linger(Millis(0));
}

}  // namespace millrace
