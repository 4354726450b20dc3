// A client's socket: one DEALER, connected to one broker, for one session. A reconnect of the
// protocol (common/net/link.h) closes it and opens another.
// Limits:  LINGER 0: what has not left when it is closed is lost, and the protocol expects that;
//          kHighWater messages wait in each direction, then send() says no
// Errors:  open(): 64 an invalid endpoint; a send or receive that fails for any reason but a full
//          or empty socket aborts, since only a bug can make it
// Owns:    the socket; the context must outlive it
// Threads: one thread
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/net/client_socket.h"
#include "common/net/curve.h"
#include "common/net/handshakes.h"

namespace millrace {

class Dealer final : public ClientSocket {
 public:
  // Flow control of the protocol acts long before this: a peer's window is a few hundred frames.
  static constexpr int kHighWater = 4096;
  static constexpr size_t kMaxIoThreads = 16;

  // The endpoint is a ZeroMQ one, tcp://host:port. Connecting continues in the background, with
  // endless retries; only an invalid endpoint is an error. `max_frame` in bytes: a larger message
  // closes the connection. With keys the connection is encrypted, and only that broker is accepted.
  // `io_thread` (modulo) is one of the context's: several brokers share them evenly.
  static Result<std::unique_ptr<ClientSocket>> open(zmq::context_t& context,
                                                    const std::string& endpoint, size_t max_frame,
                                                    const std::optional<CurveClient>& curve = {},
                                                    size_t io_thread = 0);
  Dealer(const Dealer&) = delete;
  Dealer& operator=(const Dealer&) = delete;
  ~Dealer() override;

  // A large frame is handed over without a copy.
  [[nodiscard]] bool send(std::string frame) override;
  // A message of several parts, which no broker sends, is dropped whole.
  bool receive(zmq::message_t& message) override;
  void linger(Millis time) override { socket_.set(zmq::sockopt::linger, int(time.count())); }

  std::optional<std::string> refusal() override { return handshakes_->refusal(); }
  bool cut() const override { return handshakes_->cut(); }
  bool unreachable() const override { return handshakes_->unreachable(); }
  void add_to(std::vector<zmq::pollitem_t>* items) override;

 private:
  Dealer(zmq::socket_t socket, std::unique_ptr<Handshakes> handshakes)
      : socket_(std::move(socket)), handshakes_(std::move(handshakes)) {}

  zmq::socket_t socket_;
  std::unique_ptr<Handshakes> handshakes_;
};

}  // namespace millrace
