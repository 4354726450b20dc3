// What the kernel tells of CPU time since the last look: how much of the machine's was in use, and
// for how long threads of this process were ready and had no core.
// Units:   a share, 0 to 1, and time; 0 where /proc can't be read, and the first time
// Limits:  of the threads only the first kMostThreads are looked at, and stand for the others
// Threads: one thread
// Source:  Linux, Documentation/scheduler/sched-stats.rst: the second number of schedstat
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

namespace millrace::worker {

class CpuMeter {
 public:
  double share();

 private:
  uint64_t busy_ = 0;
  uint64_t total_ = 0;
};

class CrowdMeter {
 public:
  static constexpr size_t kMostThreads = 16;

  // Of all threads together.
  std::chrono::nanoseconds ready_without_core(const std::vector<pid_t>& threads);

 private:
  std::map<pid_t, uint64_t> before_;  // nanoseconds
};

}  // namespace millrace::worker
