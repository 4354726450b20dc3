// Tells a running handler to stop: a flag to look at, a sleep that it ends, and a descriptor to
// wait on.
// Shape:   set() → is_set(), fd() readable, sleep_for() returns; clear() makes it new
// Owns:    the descriptor, which is made when somebody asks for it: a worker may have a thousand of
//          these, and most handlers need none
// Threads: any; clear() only where nobody waits on it
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace millrace::worker {

class StopSignal {
 public:
  StopSignal() = default;
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void set();
  void clear();
  bool is_set() const { return set_.load(std::memory_order_relaxed); }
  // Readable from set() on.
  int fd() const;
  // Sleeps; returns early, and false, when the signal is set. No time to sleep: true.
  bool sleep_for(std::chrono::nanoseconds duration) const;

 private:
  std::atomic<bool> set_{false};
  mutable std::mutex lock_;
  mutable std::condition_variable changed_;
  mutable int fd_ = -1;
};

}  // namespace millrace::worker
