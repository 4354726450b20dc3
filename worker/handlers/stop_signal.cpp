#include "worker/handlers/stop_signal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/check.h"

namespace millrace::worker {

StopSignal::StopSignal() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { MILLRACE_CHECK(fd_ >= 0); }
StopSignal::~StopSignal() { close(fd_); }

void StopSignal::set() {
  set_.store(true, std::memory_order_relaxed);
  eventfd_write(fd_, 1);  // never read, so the descriptor stays readable
}

bool StopSignal::sleep_for(std::chrono::nanoseconds duration) const {
  using std::chrono::steady_clock;
  auto end = steady_clock::now() + duration;
  for (auto left = duration; left.count() > 0 && !is_set(); left = end - steady_clock::now()) {
    timespec time{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    pollfd item{fd_, POLLIN, 0};
    ppoll(&item, 1, &time, nullptr);
  }
  return !is_set();
}

}  // namespace millrace::worker
