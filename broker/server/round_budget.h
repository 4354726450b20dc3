// How much of its peers' work a round does on one port before it commits and delivers: the frames
// of an honest peer wait for the rest of a round, for their own, and for one more until their
// CONFIRM leaves, so a round is short while others flood.
// Shape:   spend() what a frame has cost; is_over() after each frame
// Units:   work in the core's units, as Turns charges it; time of the monotonic clock, since a unit
//          takes from 4 to 270 ns, depending on what was asked
// Limits:  kWork or kTime, whichever is reached first, and the frame that reaches it
// Threads: one
// Source:  docs/decisions/0008-short-rounds.md
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "common/base/time.h"

namespace millrace::server {

class RoundBudget {
 public:
  static constexpr uint64_t kWork = 32768;
  static constexpr std::chrono::microseconds kTime{500};

  explicit RoundBudget(Mono begun, uint64_t work = kWork) : end_(begun + kTime), left_(work) {}

  void spend(uint64_t work) { left_ -= std::min(left_, work); }
  bool is_over(Mono now) const { return left_ == 0 || now >= end_; }

 private:
  Mono end_;
  uint64_t left_;
};

}  // namespace millrace::server
