// A high-water mark with hysteresis: shut at `high`, open again below 90 % of it, so that a queue
// at its mark does not answer every other job with a REJECT.
// Threads: one
#pragma once

#include <cstdint>

namespace millrace::core {

class HighWaterMark {
 public:
  explicit HighWaterMark(uint64_t high) : high_(high) {}  // 0: always open

  bool open(uint64_t level) {
    if (high_ == 0) return true;
    if (level >= high_) shut_ = true;
    if (level < low()) shut_ = false;
    return !shut_;
  }
  uint64_t high() const { return high_; }
  uint64_t low() const { return high_ - high_ / 10; }

 private:
  uint64_t high_;
  bool shut_ = false;
};

}  // namespace millrace::core
