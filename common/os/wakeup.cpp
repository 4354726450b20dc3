#include "common/os/wakeup.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <cstring>

#include "common/base/check.h"

namespace millrace {
namespace {

int make_eventfd() { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

}  // namespace

Wakeup::Wakeup() : fd_(make_eventfd()) { MILLRACE_CHECK(fd_.is_open()); }

Result<Wakeup> Wakeup::open() {
  FileDescriptor fd(make_eventfd());
  if (fd.is_open()) return Wakeup(std::move(fd));
  return Error{ExitCode::io,
               fmt::format("can't make an eventfd: {}; raise the limit of open files (ulimit -n)",
                           std::strerror(errno))};
}

// EAGAIN means that the counter is full, so the other side is awake already.
void Wakeup::signal() {
  const uint64_t one = 1;
  (void)uninterrupted([&] { return write(fd_.get(), &one, sizeof one); });
}

void Wakeup::drain() {
  uint64_t count;
  (void)uninterrupted([&] { return read(fd_.get(), &count, sizeof count); });
}

}  // namespace millrace
