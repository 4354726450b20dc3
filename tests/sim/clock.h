// A process's two clocks: what it takes for the time, while the world knows better.
// Shape:   monotonic: true time × (1 + drift), from an offset; wall: the same from another, plus jumps
// Threads: one
#pragma once

#include "common/base/time.h"
#include "tests/sim/world.h"

namespace millrace::sim {

class Clock {
 public:
  // 2023-11-14, and an uptime of a few hours.
  static constexpr int64_t kWallMs = 1'700'000'000'000;
  static constexpr Nanos kUptime = 10'000 * kSecond;

  explicit Clock(int64_t drift_ppm = 0) : drift_ppm_(drift_ppm) {}

  Now read(Nanos now) const {
    return {mono(now), wall_from_int(kWallMs + local(now) / kMilli + jumped_ms_)};
  }
  Mono mono(Nanos now) const { return Mono(std::chrono::nanoseconds(kUptime + local(now))); }
  // The true time at which the monotonic clock will show `when`, or a little later.
  Nanos when(Mono when) const {
    if (when == Mono::max() || when == Mono::min()) return when == Mono::max() ? INT64_MAX : 0;
    Nanos ahead = when.time_since_epoch().count() - kUptime;
    Nanos at = ahead;
    for (int i = 0; i < 4; ++i) at += ahead - local(at);
    return at + 1000;
  }
  void jump(int64_t ms) { jumped_ms_ += ms; }
  void right() { jumped_ms_ = 0; }

 private:
  Nanos local(Nanos now) const { return now + now / 1'000'000 * drift_ppm_; }

  int64_t drift_ppm_;
  int64_t jumped_ms_ = 0;
};

}  // namespace millrace::sim
