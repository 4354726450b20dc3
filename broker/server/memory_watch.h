// Whether the broker is short of memory, by the room beside its reserve
// (common/os/memory_reserve.h): then new jobs are rejected.
// Shape:   is_short(), every few ms: whether there is no room for the reserve and kHeadroomBytes more. The
//          allocator keeps address space that is free again, so a shortage is over too when half of what
//          was held has gone, until as much is held again
// Limits:  kReserveBytes, which take no RAM; kHeadroomBytes are more than a round of the loop takes
// Owns:    the reserve of the process: one object at a time
// Threads: is_short() one
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/os/memory_reserve.h"

namespace millrace::server {

class MemoryWatch {
 public:
  static constexpr size_t kReserveBytes = 128 << 20, kHeadroomBytes = 64 << 20;

  // `held`: bytes of what new jobs add to.
  bool is_short(uint64_t held);

 private:
  MemoryReserve reserve_{kReserveBytes};
  uint64_t most_held_ = 0;  // when the shortage began that is not over, or half over
  bool is_short_ = false;
};

}  // namespace millrace::server
