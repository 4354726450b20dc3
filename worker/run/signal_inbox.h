// Signals on their way to one loop: whoever receives them posts them here.
// Threads: post() from any; fd() and take() for the one that waits
#pragma once

#include <deque>
#include <mutex>

#include "common/os/wakeup.h"

namespace millrace::worker {

class SignalInbox {
 public:
  void post(int signal) {
    {
      std::lock_guard lock(lock_);
      signals_.push_back(signal);
    }
    wakeup_.signal();
  }
  // Readable while there is one.
  int fd() const { return wakeup_.fd(); }
  // The next signal, or 0.
  int take() {
    std::lock_guard lock(lock_);
    if (signals_.size() <= 1) wakeup_.drain();
    if (signals_.empty()) return 0;
    int signal = signals_.front();
    signals_.pop_front();
    return signal;
  }

 private:
  std::mutex lock_;
  std::deque<int> signals_;
  Wakeup wakeup_;
};

}  // namespace millrace::worker
