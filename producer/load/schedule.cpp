#include "producer/load/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/check.h"

namespace millrace::producer {
namespace {

constexpr double kForever = std::numeric_limits<double>::infinity();
// Sums of doubles come out a little below the whole number that is meant.
constexpr double kRounding = 1e-6;

double seconds_of(Mono::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Schedule::Schedule(const Plan& plan, Mono start, Share share)
    : start_(start), share_(share), warm_up_(plan.warm_up), duration_(plan.duration) {
  std::optional<uint64_t> all = plan.count;
  if (!plan.rate.max()) {
    const Rate::Step& first = plan.rate.steps.front();
    if (warm_up_ > Millis(0)) add({first.from, first.from, warm_up_}, seconds_of(warm_up_));
    for (const Rate::Step& step : plan.rate.steps) {
      auto lasts = step.duration ? step.duration : plan.duration;
      add(step, lasts ? seconds_of(*lasts) : kForever);
    }
    if (double end = segments_.back().end(); end < kForever)
      all = std::min(uint64_t(end + 0.5), all.value_or(UINT64_MAX));
  }
  if (all) total_ = share_of(*all);
}

void Schedule::add(const Rate::Step& step, double seconds) {
  const bool first = segments_.empty();
  const double slope = seconds < kForever ? (step.to - step.from) / seconds : 0;
  segments_.push_back({first ? 0 : segments_.back().begin + segments_.back().seconds, seconds,
                       first ? 0 : segments_.back().end(), step.from, slope});
}

// Of the submissions 0 to all - 1, how many are this producer's.
uint64_t Schedule::share_of(uint64_t all) const {
  if (all <= share_.index) return 0;
  return (all - share_.index - 1) / share_.of + 1;
}

double Schedule::sent_by(double seconds) const {
  auto after = std::upper_bound(segments_.begin(), segments_.end(), seconds,
                                [](double x, const Segment& s) { return x < s.begin; });
  const Segment& segment = *std::prev(after);
  return segment.at(std::min(seconds - segment.begin, segment.seconds));
}

// The first moment at which so many have been sent.
double Schedule::time_of(double number) const {
  auto segment = segments_.begin();
  while (std::next(segment) != segments_.end() && std::next(segment)->before < number + kRounding)
    ++segment;
  const double more = std::max(number - segment->before, 0.0);
  if (segment->slope == 0) return segment->begin + (more > 0 ? more / segment->from : 0);
  const double root =
      std::sqrt(std::max(segment->from * segment->from + 2 * segment->slope * more, 0.0));
  // Where the slope is small, this form loses no digits.
  const double x = more > 0 ? 2 * more / (segment->from + root) : 0;
  return segment->begin + std::min(x, segment->seconds);
}

uint64_t Schedule::due(Mono now) const {
  const uint64_t limit = total_.value_or(UINT64_MAX);
  if (now < start_) return 0;
  if (max()) return duration_ && now >= measured_from() + *duration_ ? 0 : limit;
  // The first one is due at once.
  const auto all = uint64_t(sent_by(seconds_of(now - start_)) + kRounding) + 1;
  return std::min(limit, share_of(all));
}

Mono Schedule::due_at(uint64_t submitted) const {
  if (total_ && submitted >= *total_) return Mono::max();
  if (max()) return start_;
  const double after = time_of(double(submitted * share_.of + share_.index));
  return start_ + std::chrono::duration_cast<Mono::duration>(std::chrono::duration<double>(after));
}

bool Schedule::over(Mono now, uint64_t submitted) const {
  if (total_ && submitted >= *total_) return true;
  return max() && duration_ && now >= measured_from() + *duration_;
}

void Schedule::burst(Seq first, Mono now) {
  if (max()) bursts_.push_back({first.value, now});
}

size_t Schedule::burst_of(Seq seq) const {
  auto after =
      std::upper_bound(bursts_.begin(), bursts_.end(), seq.value,
                       [](uint64_t value, const Burst& burst) { return value < burst.first; });
  MILLRACE_CHECK(after != bursts_.begin());
  return size_t(after - bursts_.begin()) - 1;
}

}  // namespace millrace::producer
