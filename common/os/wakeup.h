// Wakes a thread that waits in poll(): an eventfd that any number of threads signal and one drains.
// Shape:   signal() makes fd() readable until drain(); many signals between are one
// Owns:    the descriptor
// Threads: signal() from any, drain() from the one that waits
#pragma once

namespace millrace {

class Wakeup {
 public:
  Wakeup();
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  void signal();
  void drain();
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace millrace
