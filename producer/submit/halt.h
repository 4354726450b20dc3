// When submit stops early because of how its jobs end: --halt, in the manner of GNU parallel.
// Shape:   never | soon,WHY | now,WHY     WHY: fail=N | fail=P% | success=N | … | done=N | …
//          soon: nothing more is submitted, what was is waited for; now: that is cancelled as well
//          A percentage is of the jobs that have ended so far, and counts from the third of them on.
// Threads: immutable
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace millrace::producer {

struct Halt {
  enum class When { never, soon, now };
  enum class Why { fail, success, done };
  static constexpr uint64_t kLeastForPercent = 3;

  When when = When::never;
  Why why = Why::fail;
  uint64_t limit = 0;
  bool percent = false;

  static Result<Halt> parse(std::string_view text);
  // Whether it is time, with so many jobs ended as done and so many in another way.
  bool reached(uint64_t done, uint64_t failed) const;
};

}  // namespace millrace::producer
