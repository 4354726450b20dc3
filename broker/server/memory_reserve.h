// Address space set aside for a shortage of memory. Some of what the broker uses (libzmq, msgpack)
// ends the process or loses a message when malloc fails, so the shortage has to be seen before:
// when there is no room for more than the reserve, it is given back, and what has begun is finished
// with it; until it can be set aside again, new jobs are rejected.
// Shape:   is_short(), every few ms: whether there is no room for the reserve and kHeadroomBytes more. The
//          allocator keeps address space that is free again, so a shortage is over too when half of what
//          was held has gone, until as much is held again. An operator new that fails between two calls
//          gets the reserve too, through std::set_new_handler
// Limits:  kReserveBytes, which take no RAM; kHeadroomBytes are more than a round of the loop takes. It sees
//          RLIMIT_AS and vm.overcommit_memory=2; a control group's limit is not seen by any allocation: there
//          the kernel ends the process
// Errors:  std::bad_alloc from operator new when the reserve is used up as well
// Owns:    the mapping, and the new handler of the process: one object at a time
// Threads: is_short() one; the handler any
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::server {

class MemoryReserve {
 public:
  static constexpr size_t kReserveBytes = 128 << 20, kHeadroomBytes = 64 << 20;

  MemoryReserve();
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;

  // `held`: bytes of what new jobs add to.
  bool is_short(uint64_t held);

 private:
  static bool has_room();

  uint64_t most_held_ = 0;  // when the shortage began that is not over, or half over
  bool is_short_ = false;
};

}  // namespace millrace::server
