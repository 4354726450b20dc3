// When each submission of a load was meant to be sent. Latencies count from there, not from when the
// producer got round to it: an overloaded system must not look good by slowing its own clients
// down (the open loop).
// Shape:   at a rate: sequence s is due at start + (s - 1) / rate
//          as fast as possible: when it was submitted; one moment for each burst
// Threads: one thread
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/ids.h"
#include "common/time.h"

namespace millrace::producer {

class Schedule {
 public:
  // No rate: as fast as possible. No limit of either kind: for ever.
  struct Plan {
    std::optional<double> rate;  // a second
    std::optional<uint64_t> count;
    std::optional<Millis> duration;
  };
  Schedule(Plan plan, Mono start);

  // How many submissions should have been made by now, all in all.
  uint64_t due(Mono now) const;
  // When the next one after `submitted` is due; Mono::max(): never.
  Mono due_at(uint64_t submitted) const;
  bool over(Mono now, uint64_t submitted) const;
  // How many there will be, if that is certain.
  std::optional<uint64_t> total() const { return total_; }

  // Only as fast as possible: from this sequence on, submissions were made at `now`.
  void burst(Seq first, Mono now);

  // Calls visit(moment, count) for the intended moments of a range.
  template <typename Visit>
  void for_each(Seq first, uint64_t count, Visit visit) const {
    if (plan_.rate) {
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
  struct Burst {
    uint64_t first;
    Mono time;
  };
  size_t burst_of(Seq seq) const;

  Plan plan_;
  Mono start_;
  std::optional<uint64_t> total_;
  std::vector<Burst> bursts_;
};

}  // namespace millrace::producer
