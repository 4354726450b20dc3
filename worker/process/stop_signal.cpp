#include "worker/process/stop_signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/time.h"

namespace millrace::worker {

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

StopSignal::Watch::Watch(const StopSignal& signal) : signal_(signal) {
  std::lock_guard lock(signal_.lock_);
  ++signal_.watches_;
  if (signal_.fd_ < 0) signal_.fd_ = eventfd(signal_.is_set() ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
  fd_ = signal_.fd_;
}

StopSignal::Watch::~Watch() {
  std::lock_guard lock(signal_.lock_);
  if (--signal_.watches_ > 0 || signal_.fd_ < 0) return;
  close(signal_.fd_);
  signal_.fd_ = -1;
}

bool StopSignal::sleep_for(std::chrono::nanoseconds duration) const {
  if (duration.count() <= 0) return true;
  auto end = read_clock() + duration;
  std::unique_lock lock(lock_);
  return !changed_.wait_until(lock, end, [this] { return is_set(); });
}

}  // namespace millrace::worker
