// Until when jobs may start. Threads look at it as they take a job, so that a process that stood
// still starts nothing before its loop has noticed that the broker may have leased its jobs to
// others.
// Shape:   the loop moves the end on with each turn; once it has passed the gate is closed until the
//          loop moves it again. Without an end it is open.
// Units:   monotonic time; is_open() without a time counts what the machine was suspended, too
// Limits:  a virtual machine whose clocks stand still with it is not noticed
// Threads: open_until() one, the rest any
#pragma once

#include <atomic>

#include "common/base/time.h"
#include "worker/process/boottime.h"

namespace millrace::worker {

class StartGate {
 public:
  void open_until(Mono until);
  bool is_open() const;
  // What has not started by then must not start.
  Boottime end() const { return Boottime(until_on_boottime_.load(std::memory_order_relaxed)); }
  // By a time that has just been read: for jobs that are tiny.
  bool is_open(Mono now) const {
    return now.time_since_epoch().count() < until_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr Mono::rep kNoEnd = Mono::max().time_since_epoch().count();

  std::atomic<Mono::rep> until_{kNoEnd};
  std::atomic<Mono::rep> until_on_boottime_{kNoEnd};
};

}  // namespace millrace::worker
