// Bounds what connections take: how many there are, for how long they may be silent or without a
// session, how many bytes libzmq holds of them. libzmq's ROUTER has none of these limits and can't
// close a peer; but its monitor reports each connection's descriptor, which is of this process, so
// that a shutdown() of it closes that connection.
// Shape:   monitor events, TCP_INFO, ConnectionCounters → ConnectionTable → shutdown()
//          1. A descriptor is shut down only while its addresses are those of the connection that was
//             accepted: between that check and the shutdown a descriptor can change hands; then
//             another peer is disconnected, and connects again.
//          2. Where accept() fails for want of descriptors, waiting connections are accepted with a
//             spare one and closed, so that libzmq's loop does not spin.
// Limits:  each connection is sampled every 50 ms, 2,048 of them at a time; one log line a second for
//          closed connections, with the number of the others
// Owns:    the readers of the monitors, its thread; the context must outlive it, and the routers that
//          it watches must be closed before
// Threads: its own; counters() are written by the core's; close(), status(), is_connected() from any
// Source:  zmq_socket_monitor(3), tcp(7)
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#include <zmq.hpp>

#include "broker/transport/connection_counters.h"
#include "broker/transport/connection_table.h"
#include "common/base/repeat_limiter.h"
#include "common/os/wakeup.h"

namespace millrace::server {

class ConnectionGuard {
 public:
  struct Status {
    uint64_t open = 0, unread_bytes = 0;
    uint64_t refused_handshakes = 0;
    std::array<uint64_t, kCloseReasons> closed{};
  };

  // Where a ROUTER's monitor is to report; before any ROUTER is opened.
  static std::string monitor_of(core::Port port);

  // `with_keys`: a handshake that fails is worth a line in the log.
  ConnectionGuard(zmq::context_t& context, const ConnectionLimits& limits, uint64_t descriptors,
                  bool with_keys);
  ~ConnectionGuard();
  ConnectionGuard(const ConnectionGuard&) = delete;
  ConnectionGuard& operator=(const ConnectionGuard&) = delete;

  ConnectionCounters& counters() { return counters_; }
  // Closes the connection of this route if it is still there, after a delay in which what was sent
  // to it can leave.
  void close(core::Route route, Millis delay = Millis(0));
  Status status() const;
  // Whether this descriptor is the route's, and neither side has closed the connection: the kernel
  // knows before libzmq tells.
  bool is_connected(int descriptor, core::Route route) const;

 private:
  struct Addresses {
    sockaddr_storage peer{}, local{};
    bool operator==(const Addresses& other) const;
  };
  struct Watched {
    core::Port port;
    zmq::socket_t events;
    int listener = -1;
    std::string failure;  // of the handshake that is about to be closed
  };
  struct Peer {
    core::Port port;
    Addresses addresses;
  };
  struct Request {
    uint64_t key = 0;  // ConnectionCounters::key_of()
    Mono due{};
  };

  void run();
  void wait();
  void read_events(Watched& watched, Mono now);
  void on_event(Watched& watched, uint16_t event, uint32_t value, Mono now);
  void on_accept_failed(Watched& watched, uint32_t error);
  void on_closed(Watched& watched, int descriptor);
  void refuse_waiting(int listener);
  void take_requests();
  void sample_some(Mono now);
  ConnectionSample sample_of(int descriptor) const;
  void shut_down(const std::vector<ConnectionTable::Closing>& closings, Mono now);
  void publish();

  const ConnectionLimits limits_;
  const bool with_keys_;
  ConnectionCounters counters_;
  std::vector<Watched> watched_;
  ConnectionTable table_;
  std::unordered_map<int, Peer> peers_;  // by descriptor
  std::vector<int> to_sample_;           // what is left of this round
  Mono next_pass_{};
  int spare_ = -1;
  uint64_t refused_handshakes_ = 0;
  RepeatLimiter closed_lines_{Millis(1000)}, refused_lines_{Millis(1000)},
      accept_lines_{Millis(10'000)};

  mutable std::mutex lock_;
  std::vector<Request> requests_;  // under lock_
  Status status_;                  // under lock_
  std::atomic<bool> ending_{false};
  Wakeup wakeup_;
  std::thread thread_;
};

}  // namespace millrace::server
