// What a client's connection needs of its socket, so that tests can play the broker without one.
// Shape:   one socket for one session: closed with it, never connected again
// Errors:  send() and receive() say no at a full or an empty socket; refusal() gives the reason when
//          the broker rejects the handshake
// Threads: one thread
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include <zmq.hpp>

#include "common/base/result.h"
#include "common/base/time.h"

namespace millrace {

class ClientSocket {
 public:
  virtual ~ClientSocket() = default;

  // False when the socket is full: the session is as good as lost.
  [[nodiscard]] virtual bool send(std::string frame) = 0;
  // The next message if there is one.
  virtual bool receive(zmq::message_t& message) = 0;
  // How long its destruction may wait for what was sent last; 0 by default.
  virtual void linger(Millis time) = 0;

  // Reads the events of the handshake. Nothing, or why the broker rejects it.
  virtual std::optional<std::string> refusal() = 0;
  // As of the last refusal():
  virtual bool cut() const = 0;          // the connection has ended
  virtual bool unreachable() const = 0;  // nobody has accepted it so far

  // Two items: readable when a message has arrived, and when refusal() has something to read.
  virtual void add_to(std::vector<zmq::pollitem_t>* items) = 0;
};

// For an endpoint with a numeric address, tcp://host:port. What it refers to must outlive all that
// it opens.
using SocketOpener =
    std::function<Result<std::unique_ptr<ClientSocket>>(const std::string& endpoint)>;

inline std::string_view view(const zmq::message_t& message) {
  return {static_cast<const char*>(message.data()), message.size()};
}

}  // namespace millrace
