// Address space set aside for a shortage of memory. Much of what runs when malloc fails ends the
// process or loses a message, so a shortage has to be seen before: has_room() fails, and what has
// begun is finished with the reserve, which an operator new that finds no memory is given.
// Shape:   has_room(), every few ms: whether there is room for the reserve and so much more. Without
//          room the reserve is given back, and set aside again as soon as there is
//          MayFail, around code that may run out of memory alone: its operator new gets no reserve, so
//          that this is left for code that can't stop half way
// Limits:  the reserve takes no RAM. It sees RLIMIT_AS and vm.overcommit_memory=2; a control group's
//          limit is not seen by any allocation: there the kernel ends the process
// Errors:  std::bad_alloc from operator new when the reserve is used up as well
// Owns:    the mapping, and the new handler of the process: one object at a time
// Threads: any
#pragma once

#include <cstddef>

namespace millrace {

class MemoryReserve {
 public:
  explicit MemoryReserve(size_t bytes);
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;

  bool has_room(size_t more);

  class MayFail {
   public:
    MayFail();
    ~MayFail();
    MayFail(const MayFail&) = delete;
    MayFail& operator=(const MayFail&) = delete;
  };
};

// For a process whose address space is limited, before its first thread: large blocks are given
// back as they are freed, nothing is set aside for each thread but a stack, and that is of 1 MiB.
void save_address_space_if_limited();

}  // namespace millrace
