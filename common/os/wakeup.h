// Wakes a thread that waits in poll(): an eventfd that any number of threads signal and one drains.
// Shape:   signal() makes fd() readable until drain(); many signals between are one
// Owns:    the descriptor
// Errors:  open(): no descriptor is left. The constructor is for the start of a process and aborts then.
// Threads: signal() from any, drain() from the one that waits
#pragma once

#include "common/base/result.h"
#include "common/os/file_descriptor.h"

namespace millrace {

class Wakeup {
 public:
  Wakeup();
  static Result<Wakeup> open();

  void signal();
  void drain();
  int fd() const { return fd_.get(); }

 private:
  explicit Wakeup(FileDescriptor fd) : fd_(std::move(fd)) {}

  FileDescriptor fd_;
};

}  // namespace millrace
