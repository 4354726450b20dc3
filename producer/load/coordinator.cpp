#include "producer/load/coordinator.h"

#include <utility>

namespace millrace::producer {

void LoadHub::connected(Mono now) {
  // So that no producer is late before it has heard of it.
  constexpr Millis kLead{5};
  std::lock_guard lock(mutex_);
  if (++connected_ < places_.size()) return;
  start_ = places_.size() == 1 ? now : now + kLead;
  wake_all();
}

std::optional<Mono> LoadHub::start() const {
  std::lock_guard lock(mutex_);
  return start_;
}

void LoadHub::end_schedule() {
  std::lock_guard lock(mutex_);
  if (std::exchange(schedule_ended_, true)) return;
  wake_all();
}

bool LoadHub::schedule_ended() const {
  std::lock_guard lock(mutex_);
  return schedule_ended_;
}

void LoadHub::stop(ExitCode why) {
  std::lock_guard lock(mutex_);
  if (!stopped_) stopped_ = why;
  wake_all();
}

std::optional<ExitCode> LoadHub::stopped() const {
  std::lock_guard lock(mutex_);
  return stopped_;
}

void LoadHub::finished() {
  std::lock_guard lock(mutex_);
  ++finished_;
  watcher_.signal();
}

bool LoadHub::all_finished() const {
  std::lock_guard lock(mutex_);
  return finished_ == places_.size();
}

void LoadHub::wake_all() {
  for (Wakeup& place : places_) place.signal();
  watcher_.signal();
}

}  // namespace millrace::producer
