// What a client's socket tells of its connection: libzmq tries again for ever, and says nothing
// when the broker will not have us, or has gone. Its monitor does.
// Shape:   events of libzmq → refusal(): why, once it is clear; cut(): the connection that was
//          there has ended, and with it what was on its way
//          1. A key that is not on the allow-list, and a peer that speaks another mechanism, are
//             clear at once.
//          2. A connection that is closed within the handshake is a broker that just stops, or a
//             wrong key, or a mechanism that it saw first. kClosed of them in a row are a refusal.
// Owns:    its end of the monitor; the watched socket's owner stops the monitor before this goes,
//          since libzmq waits for whoever reads the events
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

  // Reads what has happened. Nothing, or why the broker refuses, with what to do about it.
  std::optional<std::string> refusal();
  // As of the last refusal().
  bool cut() const { return cut_; }
  bool unreachable() const { return unreachable_; }  // nobody took the connection, so far
  zmq::socket_t& socket() { return events_; }

 private:
  std::optional<std::string> judge(uint16_t event, uint32_t value);

  zmq::socket_t events_;
  bool has_keys_;
  bool established_ = false;
  bool cut_ = false;
  bool unreachable_ = false;
  int closed_ = 0;  // in a row
};

}  // namespace millrace
