// What the core thread has taken from each connection, by its descriptor, where the connection
// guard can read it.
// Shape:   took(), session_seen() and drained() by the core thread; read() by the guard's. Numbers only
//          grow; a connection that takes over a descriptor starts at what its predecessor left, so
//          the guard compares with the numbers of the moment at which it was accepted.
// Units:   bytes on the wire, ZMTP's framing included
// Limits:  descriptors below the table's size, those of the process; others are ignored
// Threads: one writer, the core's; any may read
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "broker/core/core.h"

namespace millrace::server {

class ConnectionCounters {
 public:
  struct Reading {
    uint64_t route = 0;  // key_of() of the connection that sent last
    uint64_t bytes = 0, messages = 0;
    uint64_t session_messages = 0;  // of a peer that had a session
  };

  explicit ConnectionCounters(size_t descriptors) : slots_(descriptors) {}

  static uint64_t key_of(core::Route route) {
    return route.id << 1 | uint64_t(route.port == core::Port::backend);
  }

  // True if this connection is known to have a session; else session_seen() is to tell.
  bool took(int descriptor, core::Route route, uint64_t bytes) {
    Slot* slot = slot_of(descriptor);
    if (!slot) return true;
    if (slot->route.load(std::memory_order_relaxed) != key_of(route)) {
      slot->route.store(key_of(route), std::memory_order_relaxed);
      slot->has_session = false;
    }
    add(slot->bytes, bytes);
    add(slot->messages, 1);
    if (slot->has_session) add(slot->session_messages, 1);
    return slot->has_session;
  }
  void session_seen(int descriptor) {
    Slot* slot = slot_of(descriptor);
    if (!slot) return;
    slot->has_session = true;
    add(slot->session_messages, 1);
  }
  // The loop has found a port empty.
  void drained(core::Port port) { add(drains_[port == core::Port::backend], 1); }

  Reading read(int descriptor) const {
    if (descriptor < 0 || size_t(descriptor) >= slots_.size()) return {};
    const Slot& slot = slots_[size_t(descriptor)];
    return {slot.route.load(std::memory_order_relaxed), slot.bytes.load(std::memory_order_relaxed),
            slot.messages.load(std::memory_order_relaxed),
            slot.session_messages.load(std::memory_order_relaxed)};
  }
  uint64_t drains(core::Port port) const {
    return drains_[port == core::Port::backend].load(std::memory_order_relaxed);
  }

 private:
  using Count = std::atomic<uint64_t>;
  struct Slot {
    Count route{UINT64_MAX}, bytes{0}, messages{0}, session_messages{0};
    bool has_session = false;  // the core thread's own
  };

  static void add(Count& count, uint64_t more) {  // one writer: no locked instruction is needed
    count.store(count.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  Slot* slot_of(int descriptor) {
    return descriptor >= 0 && size_t(descriptor) < slots_.size() ? &slots_[size_t(descriptor)]
                                                                 : nullptr;
  }

  std::vector<Slot> slots_;
  Count drains_[2]{};
};

}  // namespace millrace::server
