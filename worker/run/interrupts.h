// SIGTERM and SIGINT as something to wait for, so that a stop is handled in the loop like any other
// event. SIGHUP only makes a line in the log. SIGPIPE is ignored: a child that does not read its input must not end the worker.
// Owns:    the descriptor. The signals stay blocked: one that comes while the worker ends changes
//          nothing any more.
// Threads: make it before any other thread, so that those inherit the mask
#pragma once

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
  int fd_;
};

}  // namespace millrace::worker
