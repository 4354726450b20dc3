// SIGTERM and SIGINT as something to wait for, so that a stop is handled in the loop like any other
// event. SIGPIPE is ignored: a child that does not read its input must not end the worker.
// Owns:    the descriptor; the destructor restores the signal mask
// Threads: make it before any other thread, so that those inherit the mask
#pragma once

#include <signal.h>

namespace millrace::worker {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  int fd() const { return fd_; }
  // The next signal that came, or 0.
  int take();

 private:
  sigset_t before_;
  int fd_;
};

}  // namespace millrace::worker
