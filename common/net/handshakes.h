// Reads the monitor of a client's socket. libzmq itself retries for ever, and reports neither that
// the broker rejects the client nor that the connection has ended.
// Shape:   events of libzmq → refusal(): the reason, once it is certain; cut(): an established
//          connection has ended, and what was in transit is lost
//          1. A key that is not on the allow-list, or a peer with another security mechanism, is
//             reported at once.
//          2. A connection that is closed during the handshake can be a broker that is stopping, a
//             wrong key, or a peer that rejects the mechanism first. kClosed in a row are a refusal.
// Owns:    its end of the monitor. The owner of the watched socket stops the monitor before it
//          destroys this, because libzmq waits for the reader of the events
// Threads: that of the watched socket
#pragma once

#include <optional>
#include <string>
#include <zmq.hpp>

namespace millrace {

class Handshakes {
 public:
  static constexpr int kClosed = 10;  // about 1.5 s

  // Before the socket connects.
  Handshakes(zmq::context_t& context, zmq::socket_t& watched, bool has_keys);

  // Reads the events. Nothing, or why the broker refuses, with what to do about it.
  std::optional<std::string> refusal();
  // As of the last refusal().
  bool cut() const { return cut_; }
  bool unreachable() const { return unreachable_; }  // no connection was established so far
  zmq::socket_t& socket() { return events_; }

 private:
  std::optional<std::string> reason_of(uint16_t event, uint32_t value);

  zmq::socket_t events_;
  bool has_keys_;
  bool established_ = false;
  bool cut_ = false;
  bool unreachable_ = false;
  int closed_ = 0;  // in a row
};

}  // namespace millrace
