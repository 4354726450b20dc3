// What the kernel tells of CPU time since the last look: how much of the machine's was in use, how
// much of what this process may use, and for how long threads of this process were ready and had no
// core.
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

#include "worker/pool/usable_cpus.h"

namespace millrace::worker {

class CpuMeter {
 public:
  double share();

 private:
  uint64_t busy_ = 0;
  uint64_t total_ = 0;
};

// Counts the control group whose quota bounds this process, with all that runs in it; without one,
// or where the group does not tell, this process alone.
class AllowanceMeter {
 public:
  explicit AllowanceMeter(UsableCpus cpus);

  // Of the time that its processors and its quota allow in so many seconds.
  double share(double seconds);

 private:
  double used() const;  // seconds of CPU time

  UsableCpus cpus_;
  double before_ = -1;
};

// A thread that its control group's quota holds back counts as ready, too.
class CrowdMeter {
 public:
  static constexpr size_t kMostThreads = 16;

  // Of all threads together.
  std::chrono::nanoseconds ready_without_core(const std::vector<pid_t>& threads);

 private:
  std::map<pid_t, uint64_t> before_;  // nanoseconds
};

}  // namespace millrace::worker
