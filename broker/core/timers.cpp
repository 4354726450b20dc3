#include "broker/core/timers.h"

#include <algorithm>

namespace millrace::core {
namespace {

constexpr Millis kClockStep{1000};       // less is drift
constexpr size_t kTimersPerTick = 4096;  // due or expired at once; the rest in the next round

}  // namespace

void Timers::begin() {
  ticked_ = context_.now;
  clock_went_back_ = true;
}

// A retry waits for its backoff, not for a date: where the wall clock was ahead when it failed, it
// would wait for as long as that was.
void Timers::tick_clock(Output& out) {
  const Millis wall = context_.now.wall - ticked_.wall,
               mono = std::chrono::duration_cast<Millis>(context_.now.mono - ticked_.mono);
  ticked_ = context_.now;
  if (wall - mono < -kClockStep) clock_went_back_ = true;
  if (!std::exchange(clock_went_back_, false)) return;
  records::Due due;
  for (auto at = state_.due().rbegin(); at != state_.due().rend() && !clock_went_back_; ++at) {
    const auto& [when, id] = *at;
    const Job& job = *state_.find(id);
    const Millis own = state_.queues()[job.queue].settings.backoff_max;
    if (when <= context_.now.wall) break;
    if (job.state != JobState::retry_wait ||
        when <= context_.now.wall + std::max(own, context_.settings.backoff_max))
      continue;
    due.runs.push_back({id, 1});
    clock_went_back_ = due.runs.size() == kTimersPerTick;  // the rest in the next round
  }
  if (!due.runs.empty()) context_.emit(std::move(due), out);
}

void Timers::tick_due(Output& out) {
  records::Due due;
  for (const auto& [when, job] : state_.due()) {
    if (when > context_.now.wall || due.runs.size() == kTimersPerTick) break;
    due.runs.push_back({job, 1});
  }
  if (!due.runs.empty()) context_.emit(std::move(due), out);
}

void Timers::tick_expiries(Output& out) {
  records::Expired expired;
  for (const auto& [when, id] : state_.expiries()) {
    if (when > context_.now.wall || expired.runs.size() == kTimersPerTick) break;
    expired.runs.push_back({id, 1});
    outcomes_.report(id, *state_.find(id), JobState::expired, "", "");
  }
  if (!expired.runs.empty()) context_.emit(std::move(expired), out);
}

void Timers::evict_results(Output& out) {
  auto surplus = state_.surplus_results(context_.now.wall);
  if (!surplus.empty()) context_.emit(records::Collected{std::move(surplus)}, out);
}

void Timers::tick(Output& out) {
  tick_due(out);
  tick_expiries(out);
}

Mono Timers::wake_at(Now now, Mono latest) const {
  for (const auto* timers : {&state_.due(), &state_.expiries()}) {
    if (timers->empty()) continue;
    Millis wait = std::clamp(std::chrono::duration_cast<Millis>(timers->begin()->first - now.wall),
                             Millis(0), context_.settings.heartbeat);
    latest = std::min(latest, now.mono + wait);
  }
  return latest;
}

}  // namespace millrace::core
