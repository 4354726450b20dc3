// The two clocks, as types, so that a lease can't be compared with a wall-clock date.
// Units:   Mono counts nanoseconds since an arbitrary start and never jumps: leases, heartbeats.
//          WallMs counts milliseconds since 1970-01-01 UTC and may jump: schedules, records.
#pragma once

#include <chrono>
#include <cstdint>

namespace millrace {

using Millis = std::chrono::milliseconds;
using Mono = std::chrono::steady_clock::time_point;
using WallMs = std::chrono::time_point<std::chrono::system_clock, Millis>;

inline Mono read_clock() { return std::chrono::steady_clock::now(); }

// The moment that a pure state machine is told with every event.
struct Now {
  Mono mono;
  WallMs wall;

  static Now read() {
    return {read_clock(), std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now())};
  }
};

inline int64_t to_int(WallMs time) { return time.time_since_epoch().count(); }
inline WallMs wall_from_int(int64_t ms) { return WallMs(Millis(ms)); }

}  // namespace millrace
