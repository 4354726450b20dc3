// When each submission of a load was meant to be sent. Latencies count from there, not from when
// the producer got round to it: an overloaded system must not look good by slowing its own clients
// down (the open loop).
// Shape:   at a rate: steps, each even or rising or falling evenly; submission k of all is due when
//            k would have been sent
//          as fast as possible: when it was submitted; one moment for each burst
//          Of `of` producers the one with this index sends every of-th, so that together they keep
//          the plan.
// Threads: one thread
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "producer/load/rate.h"

namespace millrace::producer {

class Schedule {
 public:
  // No steps: as fast as possible. No limit of either kind: for ever.
  struct Plan {
    Rate rate;
    std::optional<uint64_t> count;   // of all submissions
    std::optional<Millis> duration;  // of a rate without times, warm-up excluded
    Millis warm_up{0};               // at the first rate, before all that
  };
  struct Share {
    uint64_t index;
    uint64_t of;
  };
  Schedule(const Plan& plan, Mono start, Share share = {0, 1});

  // How many submissions should have been made by now, all in all.
  uint64_t due(Mono now) const;
  // When the next one after `submitted` is due; Mono::max(): never.
  Mono due_at(uint64_t submitted) const;
  bool over(Mono now, uint64_t submitted) const;
  // How many there will be, if that is certain.
  std::optional<uint64_t> total() const { return total_; }
  // What was meant to be sent before is the warm-up.
  Mono measured_from() const { return start_ + warm_up_; }
  bool max() const { return segments_.empty(); }

  // Only as fast as possible: from this sequence on, submissions were made at `now`.
  void burst(Seq first, Mono now);

  // Calls visit(moment, count) for the intended moments of a range.
  template <typename Visit>
  void for_each(Seq first, uint64_t count, Visit visit) const {
    if (!max()) {
      for (uint64_t i = 0; i < count; ++i) visit(due_at(first.value + i - 1), 1);
      return;
    }
    for (size_t at = burst_of(first); count > 0; ++at) {
      uint64_t end = at + 1 < bursts_.size() ? bursts_[at + 1].first : UINT64_MAX;
      uint64_t here = std::min(count, end - first.value);
      visit(bursts_[at].time, here);
      first.value += here;
      count -= here;
    }
  }

 private:
  // A step as a function: n(x) = before + from·x + slope·x²/2 submissions after x seconds of it.
  struct Segment {
    double begin;    // seconds since the start
    double seconds;  // infinite: for ever
    double before;
    double from;
    double slope;
    double at(double x) const { return before + from * x + slope * x * x / 2; }
    double end() const { return at(seconds); }
  };
  struct Burst {
    uint64_t first;
    Mono time;
  };
  void add(const Rate::Step& step, double seconds);
  double sent_by(double seconds) const;
  double time_of(double number) const;
  uint64_t share_of(uint64_t all) const;
  size_t burst_of(Seq seq) const;

  Mono start_;
  Share share_;
  Millis warm_up_;
  std::optional<Millis> duration_;  // as fast as possible
  std::vector<Segment> segments_;   // empty: as fast as possible
  std::optional<uint64_t> total_;   // of this share
  std::vector<Burst> bursts_;
};

}  // namespace millrace::producer
