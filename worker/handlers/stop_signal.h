// Tells every running handler to stop, once: a flag to look at and a descriptor to wait on.
// Owns:    the descriptor
// Threads: any
#pragma once

#include <atomic>
#include <chrono>

namespace millrace::worker {

class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void set();
  bool is_set() const { return set_.load(std::memory_order_relaxed); }
  // Readable from set() on.
  int fd() const { return fd_; }
  // Sleeps; returns early, and false, when the signal is set.
  bool sleep_for(std::chrono::nanoseconds duration) const;

 private:
  std::atomic<bool> set_{false};
  int fd_;
};

}  // namespace millrace::worker
