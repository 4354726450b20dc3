// What time brings to jobs and results: dues, expiries, results that nobody collected, and a wall
// clock that was set back.
// Shape:   tick() → Due and Expired records of up to kTimersPerTick jobs, the rest in the next round
// Units:   wall-clock ms
// Threads: one
#pragma once

#include <optional>

#include "broker/core/outcomes/outcomes.h"

namespace millrace::core {

class Timers {
 public:
  Timers(Context& context, Outcomes& outcomes)
      : context_(context), state_(context.state), outcomes_(outcomes) {}

  void begin();
  void tick_clock(Output& out);
  void tick(Output& out);
  void evict_results(Output& out);
  Mono wake_at(Now now, Mono latest) const;  // the earlier of the first timer and `latest`

 private:
  void tick_due(Output& out);
  void tick_expiries(Output& out);

  Context& context_;
  State& state_;
  Outcomes& outcomes_;
  Now ticked_{};
  bool clock_went_back_ = false;  // as far as is known
};

}  // namespace millrace::core
