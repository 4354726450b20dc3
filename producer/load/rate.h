// How fast load submits: --rate, as people write it, and as steps.
// Shape:   max | N | FROM..TO | STEP,STEP,…   with STEP = N:DURATION or FROM..TO:DURATION
//          A rate without a duration lasts as long as --duration says; FROM..TO rises or falls
//          evenly from the one to the other.
// Units:   submissions a second
// Limits:  kMaxRate; a rate of 0 only where something before or behind it is above
// Threads: immutable
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"

namespace millrace::producer {

struct Rate {
  static constexpr int64_t kMaxRate = 100'000'000;

  struct Step {
    double from = 0;
    double to = 0;
    std::optional<Millis> duration;
  };
  std::vector<Step> steps;  // empty: as fast as possible

  static Result<Rate> parse(std::string_view text);
  bool max() const { return steps.empty(); }
  bool timed() const { return !steps.empty() && steps.back().duration.has_value(); }
  bool ramps() const { return !steps.empty() && steps.front().from != steps.front().to; }
};

}  // namespace millrace::producer
