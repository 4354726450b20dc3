// What the loop needs of the world around it: connections, and someone to report to. The server
// gives it sockets and a log, the simulator a network and an oracle; the loop itself has no I/O,
// clock or thread of its own.
// Shape:   a call for each round, port or frame, never for each job
// Threads: the loop's
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "broker/core/core.h"
#include "common/base/time.h"
#include "common/protocol/codec.h"

namespace millrace::server {

// A message from a peer that waits to be handled.
struct Frame {
  std::shared_ptr<const void> owner;  // of the bytes
  std::string_view bytes;
  bool malformed = false;  // not exactly one frame
  int descriptor = -1;     // of a connection that has not opened a session yet
  core::KeyId key;
};

// Both ports.
class Transport {
 public:
  virtual ~Transport() = default;

  // First in a round: tells the loop which connections are gone, and which must go.
  virtual void begin_round() = 0;
  // Gives frames to Loop::push() until none is left, or a round's share of them is used up; then it
  // returns true. Stops while Loop::is_full().
  virtual bool receive(core::Port port) = 0;
  // False: nobody is there, or the peer takes no more.
  virtual bool send(core::Route route, std::string frame) = 0;
  // The connection is closed once what was sent to it has had this long to leave.
  virtual void disconnect(core::Route route, Millis delay) = 0;

  // Bytes that wait in the loop for their commit count against the peer's send buffer.
  virtual void hold(core::Route route, size_t bytes) = 0;
  virtual void release(core::Route route, size_t bytes) = 0;
  virtual void disconnect_slow_readers() = 0;
  virtual bool has_room(core::Route route) const = 0;
  virtual bool is_connected(core::Route route) const = 0;
  // The same of a connection that may not have opened a session yet; `descriptor` as in Frame.
  virtual bool is_connected(core::Route route, int descriptor) const = 0;
  // A message from a connection that had no session was handled; it may have opened this one.
  virtual void note_session(core::Route route, int descriptor, SessionId session) = 0;
};

// Hears what operators should know of.
class LoopObserver {
 public:
  virtual ~LoopObserver() = default;
  virtual void frame_refused(core::Route route, const protocol::Fault& fault) = 0;
  virtual void peer_overran(core::Route route, const std::string& peer) = 0;
  virtual void payload_unreadable(const std::string& cause) = 0;
  virtual void message_not_encoded() = 0;  // for want of memory
  // `shortage` is what the journal can't be written for, if that is why.
  virtual void disk_full_changed(bool full, const std::string& shortage, uint64_t free) = 0;
};

// The loop's calls into the core. Overridden only to plant faults there, and to check both sides.
class CoreCalls {
 public:
  using Envelope = protocol::Envelope<protocol::FromClient>;

  virtual ~CoreCalls() = default;
  virtual std::optional<std::string> replay(core::Core& core, const records::Record& record,
                                            Now now) {
    return core.replay(record, now);
  }
  virtual void receive(core::Core& core, Now now, core::Route route, const Envelope& envelope,
                       core::KeyId key, core::Output& out) {
    core.receive(now, route, envelope, out, key);
  }
  virtual void tick(core::Core& core, Now now, core::Output& out) { core.tick(now, out); }
  virtual void dispatch(core::Core& core, Now now, core::Output& out) { core.dispatch(now, out); }
  virtual void advance_operations(core::Core& core, Now now, core::Output& out) {
    core.advance_operations(now, out);
  }
  // All that the core says passes here before the loop acts on it.
  virtual void inspect(core::Output&) {}
};

}  // namespace millrace::server
