// SIGTERM and SIGINT as events of a program's loop. SIGHUP only makes a line in the log: a closed
// terminal ends no worker. SIGPIPE is ignored: a child that does not read its input must not end
// its parent.
// Threads: make it before any other thread, so that those inherit the mask
#pragma once

#include "common/os/signals.h"

namespace millrace {

class TerminationSignals {
 public:
  TerminationSignals();

  int fd() const { return signals_.fd(); }
  // The next SIGTERM or SIGINT that has arrived, or 0.
  int take();

 private:
  SignalFd signals_;
};

}  // namespace millrace
