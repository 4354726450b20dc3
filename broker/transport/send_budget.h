// What the broker may hold for peers that read slower than it writes, and what it holds.
// Shape:   a connection's bytes wait in three places: held until their commit, waiting in the Router,
//          and handed to libzmq (InTransit), which frees them on its own thread
// Units:   bytes; each frame counts kFrameCost more
// Limits:  per_peer and total concern what is held and waits; libzmq is handed at most
//          kTransportBytes of a connection, kTransportLeast when kTransportCrowded is passed in sum
// Owns:    nothing; the wakeup must outlive the ZeroMQ context
// Threads: one, the core's; InTransitTotals and InTransit are shared with libzmq's
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/os/wakeup.h"

namespace millrace::server {

inline constexpr size_t kFrameCost = 256;
inline constexpr size_t kTransportBytes = 1 << 20;
inline constexpr size_t kTransportLeast = 256 << 10;  // then more is sent
inline constexpr size_t kTransportCrowded = 64 << 20;

// Of all connections.
struct InTransitTotals {
  explicit InTransitTotals(Wakeup& w) : wakeup(w) {}
  std::atomic<size_t> bytes{0};
  Wakeup& wakeup;
};

// Of one connection.
struct InTransit {
  std::atomic<size_t> bytes{0};
  std::atomic<bool> is_outstanding{false};  // signal when it has fallen
};

struct SendBudget {
  SendBudget(size_t peer, size_t all, Wakeup& wakeup)
      : per_peer(peer), total(all), transport(std::make_shared<InTransitTotals>(wakeup)) {}

  const size_t per_peer, total;
  size_t buffered = 0;        // held and waiting, of all connections
  uint64_t disconnected = 0;  // slow readers, since this start
  std::shared_ptr<InTransitTotals> transport;

  bool is_over() const { return buffered > total; }
  size_t transport_limit() const {
    return transport->bytes.load() > kTransportCrowded ? kTransportLeast : kTransportBytes;
  }
};

}  // namespace millrace::server
