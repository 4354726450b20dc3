#include "producer/schedule.h"

#include <algorithm>

#include "common/check.h"

namespace millrace::producer {
namespace {

double seconds_of(Mono::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Schedule::Schedule(Plan plan, Mono start) : plan_(plan), start_(start), total_(plan.count) {
  if (!plan_.rate || !plan_.duration) return;
  auto in_time = uint64_t(*plan_.rate * seconds_of(*plan_.duration) + 0.5);
  total_ = std::min(in_time, total_.value_or(UINT64_MAX));
}

uint64_t Schedule::due(Mono now) const {
  uint64_t limit = total_.value_or(UINT64_MAX);
  if (now < start_) return 0;
  if (!plan_.rate) return plan_.duration && now >= start_ + *plan_.duration ? 0 : limit;
  // The first one is due at once.
  return std::min(limit, uint64_t(seconds_of(now - start_) * *plan_.rate) + 1);
}

Mono Schedule::due_at(uint64_t submitted) const {
  if (total_ && submitted >= *total_) return Mono::max();
  if (!plan_.rate) return start_;
  auto after = std::chrono::duration<double>(double(submitted) / *plan_.rate);
  return start_ + std::chrono::duration_cast<Mono::duration>(after);
}

bool Schedule::over(Mono now, uint64_t submitted) const {
  if (total_ && submitted >= *total_) return true;
  return !plan_.rate && plan_.duration && now >= start_ + *plan_.duration;
}

void Schedule::burst(Seq first, Mono now) {
  if (!plan_.rate) bursts_.push_back({first.value, now});
}

size_t Schedule::burst_of(Seq seq) const {
  auto after =
      std::upper_bound(bursts_.begin(), bursts_.end(), seq.value,
                       [](uint64_t value, const Burst& burst) { return value < burst.first; });
  MILLRACE_CHECK(after != bursts_.begin());
  return size_t(after - bursts_.begin()) - 1;
}

}  // namespace millrace::producer
