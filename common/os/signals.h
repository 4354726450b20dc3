// Signals as events of a loop instead of interruptions.
// Shape:   SignalFd: blocks the given signals in this thread and all that it starts later, and makes
//          them readable. SignalsBlocked: none reaches this thread, nor one started meanwhile, while
//          it lives: signals are for the thread that waits for them.
// Owns:    SignalFd its descriptor; the signals stay blocked after it, and one that comes then changes
//          nothing any more
// Threads: make a SignalFd before any other thread
#pragma once

#include <signal.h>

#include <initializer_list>

#include "common/os/file_descriptor.h"

namespace millrace {

sigset_t signal_set(std::initializer_list<int> signals);

class SignalFd {
 public:
  explicit SignalFd(std::initializer_list<int> signals);

  int fd() const { return fd_.get(); }
  // The next signal that has arrived, or 0.
  int take();

 private:
  FileDescriptor fd_;
};

class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

// From here on they have their default effect on this thread again.
void unblock_signals(std::initializer_list<int> signals);

}  // namespace millrace
