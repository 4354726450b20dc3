// Lets the first of many like events through to the log, then one per interval, with the number
// of those held back in between: a flood of bad frames must not fill a disk with log lines.
// Shape:   one object for each kind of line, kept by whoever writes it
// Units:   monotonic time, passed in
// Threads: one thread
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "common/base/time.h"

namespace millrace {

class RepeatLimiter {
 public:
  explicit RepeatLimiter(Millis interval) : interval_(interval) {}

  // Nothing: stay silent. A number: write the line, and say that so many were held back.
  std::optional<uint64_t> admit(Mono now) {
    if (next_ && now < *next_) {
      ++held_back_;
      return std::nullopt;
    }
    next_ = now + interval_;
    return std::exchange(held_back_, 0);
  }

 private:
  Millis interval_;
  std::optional<Mono> next_;
  uint64_t held_back_ = 0;
};

}  // namespace millrace
