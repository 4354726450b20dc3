// Which connections are to be closed: the decisions of the connection guard, without its sockets.
// libzmq's ROUTER has no limit of connections, nor of the bytes that a peer's unfinished message
// takes.
// Shape:   opened, closed, sampled, asked to close → close_due() → descriptors with the reason, each once
//          1. More than limits.connections: the oldest without a session goes; if all have one, the
//             newest.  2. No session within session_time, though the loop has emptied the port since:
//             it goes.  3. Nothing received for silence_time: it goes.  4. What libzmq holds of a
//             connection is what the process has read of it less what the loop has taken. Above
//             unread_bytes it goes; where the sum is above unread_total, those that hold most go.
// Units:   bytes on the wire
// Limits:  see ConnectionLimits
// Threads: one
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/time.h"

namespace millrace::server {

struct ConnectionLimits {
  uint64_t connections = 0;
  uint64_t unread_bytes = 0;
  uint64_t unread_total = 0;
  Millis session_time{10'000};
  Millis silence_time{60'000};
};

enum class CloseReason { capacity, no_session, silent, unread_bytes, unread_total, requested };
inline constexpr size_t kCloseReasons = 6;
std::string_view name_of(CloseReason reason);

// Numbers that only grow, but for `waiting`.
struct ConnectionSample {
  uint64_t received = 0;          // by the kernel, since the connection began
  uint64_t waiting = 0;           // in the kernel, not read yet
  uint64_t taken = 0;             // by the loop
  uint64_t messages = 0;          // by the loop
  uint64_t session_messages = 0;  // those of a peer with a session
  uint64_t drains = 0;            // how often the loop has emptied this connection's port
};

class ConnectionTable {
 public:
  explicit ConnectionTable(ConnectionLimits limits) : limits_(limits) {}

  // `base`: the numbers at this moment, whatever a predecessor of the descriptor left there.
  void opened(int descriptor, const ConnectionSample& base, Mono now);
  void closed(int descriptor);
  void sampled(int descriptor, const ConnectionSample& sample, Mono now);
  void close_at(int descriptor, Mono due);

  struct Closing {
    int descriptor = -1;
    CloseReason reason{};
    uint64_t unread_bytes = 0;
  };
  // `refresh`: a sample of now, asked for before a connection is closed for the lack of a session.
  using Refresh = std::function<ConnectionSample(int descriptor)>;
  std::vector<Closing> close_due(Mono now, const Refresh& refresh);
  // Of these, only those above the maximum: cheap enough for each connection that is accepted.
  std::vector<Closing> close_above_maximum(Mono now, const Refresh& refresh);
  // Room for others at once, where descriptors have run out: the oldest without a session.
  std::vector<Closing> shed(size_t count);

  bool is_closing(int descriptor) const;
  size_t size() const { return open_.size(); }
  uint64_t unread_total() const { return unread_total_; }
  const std::array<uint64_t, kCloseReasons>& closed_by_reason() const { return by_reason_; }

 private:
  // Every byte that had been received at a sample has been taken once the loop has emptied the port
  // after it, and has taken a further message of this connection then. That bounds what else
  // would grow with time: the bytes of ZMTP's own commands, which nobody takes.
  struct Mark {
    uint64_t received = 0, drains = 0;
    std::optional<uint64_t> messages;  // when the port had been emptied
  };
  struct Connection {
    uint64_t order = 0;  // by age
    Mono opened{}, last_received{};
    ConnectionSample base, last;
    uint64_t corrected = 0;  // bytes that are known not to be held, though not taken
    uint64_t unread = 0;
    std::optional<Mark> mark;
    bool has_session = false, is_closing = false;
  };

  void set_unread(Connection& connection, uint64_t bytes);
  void advance_mark(Connection& connection, const ConnectionSample& sample);
  void close(int descriptor, CloseReason reason, std::vector<Closing>& out);
  bool lacks_session(int descriptor, Mono now, const Refresh& refresh);
  void close_crowd(Mono now, const Refresh& refresh, std::vector<Closing>& out);
  void close_without_session(Mono now, const Refresh& refresh, std::vector<Closing>& out);
  void close_hoarders(std::vector<Closing>& out);

  const ConnectionLimits limits_;
  std::unordered_map<int, Connection> open_;
  std::map<uint64_t, int> by_age_;           // not those that are being closed
  std::map<uint64_t, int> without_session_;  // of by_age_
  std::multimap<Mono, uint64_t> requested_;  // orders, since descriptors come back
  std::set<int> over_limit_;  // silent, or too much unread: since the last close_due()
  uint64_t next_order_ = 0;
  uint64_t unread_total_ = 0;
  std::array<uint64_t, kCloseReasons> by_reason_{};
};

}  // namespace millrace::server
