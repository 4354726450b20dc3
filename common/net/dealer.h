// A client's socket: one DEALER, connected to one broker, for one session. A reconnect of the
// protocol (common/net/link.h) closes it and opens another.
// Limits:  LINGER 0: what has not left when it is closed is lost, and the protocol expects that;
//          kHighWater messages wait in each direction, then send() says no
// Errors:  open() gives a value; a send or receive that fails for any reason but a full
//          or empty socket aborts, since only a bug can make it
// Owns:    the socket; the context must outlive it
// Threads: one thread
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/net/curve.h"
#include "common/net/handshakes.h"

namespace millrace {

class Dealer {
 public:
  // Flow control of the protocol acts long before this: a peer's window is a few hundred frames.
  static constexpr int kHighWater = 4096;
  static constexpr size_t kMaxIoThreads = 16;

  // The endpoint is a ZeroMQ one, tcp://host:port. Connecting goes on in the background and is
  // tried again for ever; only an endpoint that can't be one is an error. `max_frame` in bytes:
  // a larger message closes the connection.
  // With keys the connection is encrypted, and only that broker is spoken with. `io_thread`
  // (modulo) is one of the context's: libzmq looks names up there, and a slow answer holds up all
  // that share it.
  static Result<Dealer> open(zmq::context_t& context, const std::string& endpoint, size_t max_frame,
                             const std::optional<CurveClient>& curve = {}, size_t io_thread = 0);
  Dealer(Dealer&&) = default;
  Dealer& operator=(Dealer&&) = delete;
  ~Dealer();

  // False when the socket is full: the session is as good as lost. A large frame is handed over
  // without a copy.
  [[nodiscard]] bool send(std::string frame);
  // The next message if there is one; a message of several parts, which no broker sends, is
  // dropped whole.
  bool receive(zmq::message_t& message);

  // How long its closing may wait for what was sent last; 0 until told.
  void linger(Millis time) { socket_.set(zmq::sockopt::linger, int(time.count())); }

  // Nothing, or why the broker ends the handshake; to be asked when poll() says so.
  std::optional<std::string> refusal() { return handshakes_->refusal(); }
  bool cut() const { return handshakes_->cut(); }  // the connection has ended
  bool unreachable() const { return handshakes_->unreachable(); }
  zmq::socket_t& handshakes() { return handshakes_->socket(); }

  zmq::socket_t& socket() { return socket_; }

 private:
  Dealer(zmq::socket_t socket, std::unique_ptr<Handshakes> handshakes)
      : socket_(std::move(socket)), handshakes_(std::move(handshakes)) {}

  zmq::socket_t socket_;
  std::unique_ptr<Handshakes> handshakes_;
};

inline std::string_view view(const zmq::message_t& message) {
  return {static_cast<const char*>(message.data()), message.size()};
}

}  // namespace millrace
