// The clock that goes on while the machine is suspended, the same for all processes: by it a
// command that its worker may no longer start is recognized.
// Units:   nanoseconds since the machine's start
// Threads: any
#pragma once

#include <time.h>

#include <chrono>

namespace millrace::worker {

using Boottime = std::chrono::nanoseconds;

inline constexpr Boottime kNoDeadline = Boottime::max();

inline Boottime read_boottime() {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace millrace::worker
