#include "worker/handlers/stop_signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/check.h"

namespace millrace::worker {

StopSignal::~StopSignal() {
  if (fd_ >= 0) close(fd_);
}

void StopSignal::set() {
  std::lock_guard lock(lock_);
  if (set_.exchange(true)) return;
  if (fd_ >= 0) eventfd_write(fd_, 1);
  changed_.notify_all();
}

void StopSignal::clear() {
  std::lock_guard lock(lock_);
  if (!set_.exchange(false)) return;
  eventfd_t count;
  if (fd_ >= 0) eventfd_read(fd_, &count);
}

int StopSignal::fd() const {
  std::lock_guard lock(lock_);
  if (fd_ < 0) fd_ = eventfd(is_set() ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
  MILLRACE_CHECK(fd_ >= 0);
  return fd_;
}

bool StopSignal::sleep_for(std::chrono::nanoseconds duration) const {
  if (duration.count() <= 0) return true;
  auto end = std::chrono::steady_clock::now() + duration;
  std::unique_lock lock(lock_);
  return !changed_.wait_until(lock, end, [this] { return is_set(); });
}

}  // namespace millrace::worker
