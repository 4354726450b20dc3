// How many processors this process may use: those of its affinity, and no more than its control
// groups let it have on average, whatever the machine has.
// Shape:   sched_getaffinity(), and of its control group and all above it the smallest quota / period:
//          cpu.max (version 2), cpu.cfs_quota_us and cpu.cfs_period_us (version 1)
// Units:   processors; a quota may be a fraction
// Errors:  what can't be read does not bound
// Threads: any
// Source:  Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst
#pragma once

#include <cstddef>
#include <string>

namespace millrace::worker {

struct UsableCpus {
  size_t affinity = 1;
  double quota = 0;   // 0: none
  std::string group;  // directory of the control group that has this quota

  // What to count with, rounded up.
  size_t count() const;
  std::string text() const;  // "4", or "2 of 8 (quota 1.5)"
};

// `root` stands before each path; for tests.
UsableCpus usable_cpus(const std::string& root = "");

}  // namespace millrace::worker
