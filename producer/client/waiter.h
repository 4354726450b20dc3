// What a producer's thread waits for besides its socket: the next moment of its own schedule, to
// the microsecond, where zmq_poll only knows milliseconds; Ctrl-C; and input on a pipe.
// Shape:   one descriptor, readable when any of them is there
// Owns:    the descriptors. From its making on SIGINT and SIGTERM only arrive here: make it before
//          any thread is started.
// Threads: one thread
#pragma once

#include "common/base/time.h"
#include "common/os/signals.h"

namespace millrace::producer {

class Waiter {
 public:
  // leave: for threads besides the one that takes them; never interrupted. serve: SIGHUP as well,
  // which only makes a line in the log.
  enum class Signals { take, leave, serve };
  explicit Waiter(Signals signals = Signals::take);

  int fd() const { return epoll_.get(); }
  // Replaces the moment set before; a past one is there at once.
  void wake_at(Mono at);
  // Whether input on `fd` wakes as well. Regular files never have to be waited for.
  void watch(int fd, bool on);
  // By SIGINT or SIGTERM, since the beginning.
  bool interrupted();
  // By one SIGTERM, and nothing after it.
  bool terminated();

 private:
  void take_signals();

  SignalFd signals_;
  FileDescriptor epoll_;
  FileDescriptor timer_;
  int watched_ = -1;
  bool by_int_ = false, by_term_ = false, by_second_term_ = false;
};

}  // namespace millrace::producer
