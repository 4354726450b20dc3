// Tells a running handler to stop: a flag to look at, a sleep that it ends, and a descriptor to
// wait on.
// Shape:   set() → is_set(), fd() readable, sleep_for() returns; clear() makes it new
// Owns:    the descriptor, which is there as long as somebody watches: a worker may have a thousand of
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
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void set();
  void clear();
  bool is_set() const { return set_.load(std::memory_order_relaxed); }
  // A descriptor that is readable from set() on, as long as one of these lives; -1 where there was
  // none left.
  class Watch {
   public:
    explicit Watch(const StopSignal& signal);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    int fd() const { return fd_; }

   private:
    const StopSignal& signal_;
    int fd_;
  };
  // Sleeps; returns early, and false, when the signal is set. No time to sleep: true.
  bool sleep_for(std::chrono::nanoseconds duration) const;

 private:
  std::atomic<bool> set_{false};
  mutable std::mutex lock_;
  mutable std::condition_variable changed_;
  mutable int fd_ = -1;
  mutable int watches_ = 0;
};

}  // namespace millrace::worker
