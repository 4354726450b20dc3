// How many file descriptors this process may have open, and how a server divides them.
// Shape:   raise_descriptor_limit() → the limit in force; divide() → who may use how many. What the
//          process needs for itself comes first, so that connections never take it away.
// Limits:  kMostDescriptors: where the hard limit is a billion, as in containers, more would only cost
// Threads: any; the limit is the process's
#pragma once

#include <cstdint>

namespace millrace {

inline constexpr uint64_t kMostDescriptors = 65'536;
// libzmq aborts where it can't have a descriptor for itself.
inline constexpr uint64_t kLeastDescriptors = 64;

// Raises the soft limit to the hard one, up to kMostDescriptors; never lowers it.
uint64_t raise_descriptor_limit();

// A broker's: `limit` is what raise_descriptor_limit() returned.
struct DescriptorBudget {
  uint64_t reserve = 0;      // journal, snapshot, libzmq, logs, and connections about to be closed
  uint64_t http = 0;         // connections of the HTTP port
  uint64_t connections = 0;  // of producers and workers, both ports together

  static DescriptorBudget of(uint64_t limit);
};

}  // namespace millrace
