// A client's connection to one broker, the same for producers and workers (docs/PROTOCOL.md,
// section 2): resolves the broker's name, opens a socket, sends heartbeats, detects the loss of the
// broker, and opens a new session after a back-off.
// Shape:   advance() → the next change of state; receive() → each message of the session, from its
//          WELCOME on
//          1. A message of another session, or one after the loss, is dropped.
//          2. If the connection is cut, what had arrived is delivered before the loss.
//          3. A refusal ends the session like a loss: the next attempt follows after the back-off.
// Units:   monotonic time, passed in
// Limits:  kFramesPerTurn frames are delivered at a time, so that every connection has its turn
// Errors:  advance(): the socket can't be opened, as for an invalid endpoint. A broker that does not
//          answer is no error: refusal() and unresolved() say why
// Owns:    the socket; what the opener refers to must outlive it
// Threads: one thread; names are resolved in another
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/repeat_limiter.h"
#include "common/base/units.h"
#include "common/net/client_socket.h"
#include "common/net/link.h"
#include "common/net/resolver.h"
#include "common/protocol/codec.h"

namespace millrace {

class ClientConnection {
 public:
  static constexpr size_t kFramesPerTurn = 256;
  static constexpr Millis kShutdownGrace{500};  // for a BYE to leave

  // Which of the broker's two ports is the client's.
  struct Role {
    const char* name;
    const char* other_name;
    const char* port_flag;
    int port;
  };
  struct Options {
    Endpoint broker;
    Role role;
    // The caller reports a refusal for good, and that the first attempt had no answer; otherwise
    // they are logged.
    bool caller_reports = false;
    Resolver::LookUp look_up = Resolver::look_up_host;
  };
  struct Refusal {
    Error error;
    bool for_good;  // until an operator changes something: another attempt is of no use
  };
  // Points into the frame, which the recipient may share.
  using Frame = std::shared_ptr<const zmq::message_t>;
  using OnMessage = std::function<void(const protocol::FromBroker& message, const Frame& frame)>;

  ClientConnection(Options options, SocketOpener open_socket);

  // What has happened; call it again until there is nothing:
  //   opened      send HELLO or REGISTER
  //   lost        the session, which had its WELCOME, is over
  //   unanswered  the attempt to open one is
  enum class Step { none, opened, lost, unanswered };
  Result<Step> advance(Mono now);
  // When advance() will have something to do.
  Mono wake_at() const;

  // False: the session is lost.
  bool send(std::string frame, Mono now);
  void add_to(std::vector<zmq::pollitem_t>* items);
  // With the items of the last add_to(). An ERROR that refuses the session becomes a refusal(); any
  // other one is delivered, even before the WELCOME.
  void receive(const std::vector<zmq::pollitem_t>& items, Mono now, const OnMessage& on_message);

  // Gives the session up; advance() reports it.
  void lost(Mono now) { link_.lost(now); }
  void refuse(ExitCode code, const std::string& why, bool for_good, Mono now);
  // Before close(), or before the connection is destroyed, which then wait for it to leave.
  void say_bye();
  void close() { socket_.reset(); }

  bool connected() const { return link_.connected(); }
  bool ever_connected() const { return ever_connected_; }
  SessionId session() const { return link_.session(); }
  Mono gone_at(Mono now) const { return link_.gone_at(now); }
  const Endpoint& broker() const { return options_.broker; }

  // Why the broker rejects this client; nothing once it has sent a WELCOME.
  const std::optional<Refusal>& refusal() const { return refusal_; }
  // The broker that last refused the session because this client has another connection to it.
  std::optional<BrokerId> in_use_at() const { return in_use_at_; }
  // Why the broker's name has no address, at the last attempt.
  const std::optional<Error>& unresolved() const { return unresolved_; }
  bool unreachable() const { return unresolved_ || (socket_ && socket_->unreachable()); }

 private:
  Result<bool> open(Mono now);
  Step drop();
  void on_handshake_rejected(Mono now);
  void on_frame(const Frame& frame, Mono now, const OnMessage& on_message);
  bool on_welcome(const protocol::Welcome& welcome, Mono now);
  bool on_refused(const protocol::ErrorReply& error, Mono now);

  const Options options_;
  const SocketOpener open_socket_;
  Link link_;
  Resolver resolver_;
  bool is_resolving_ = false;  // the open session has no socket yet
  Mono poll_at_{};             // the resolver
  std::unique_ptr<ClientSocket> socket_;
  size_t items_at_ = 0;  // of the socket, among those of the last add_to()
  bool was_welcomed_ = false;
  bool ever_connected_ = false;
  std::optional<Refusal> refusal_;
  std::optional<BrokerId> in_use_at_;
  std::optional<Error> unresolved_;
  RepeatLimiter bad_frames_{Millis(10'000)}, refusals_{Millis(10'000)};
};

}  // namespace millrace
