#include "common/os/wakeup.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "common/base/check.h"

namespace millrace {

// Without descriptors left there is nothing that a caller could do better than stop.
Wakeup::Wakeup() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { MILLRACE_CHECK(fd_ >= 0); }
Wakeup::~Wakeup() { close(fd_); }

void Wakeup::signal() {
  uint64_t one = 1;
  // EAGAIN means that the counter is full, so the other side is awake already.
  while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void Wakeup::drain() {
  uint64_t count;
  while (read(fd_, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

}  // namespace millrace
