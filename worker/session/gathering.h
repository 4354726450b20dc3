// When completions are collected next. Each message of completions costs broker and worker about
// ten switches between threads, and the broker an fdatasync; a busy worker sends several in one.
// Shape:   after each collection → collect_at(): none as long as completions are collected as they
//          come; kGather later, when all jobs were done and the threads have work for kWorkAhead
//          A failure is collected as it comes, since the circuit breaker counts failures in a row; the
//          last completions before the threads idle are, too.
// Units:   monotonic time, passed in
// Threads: one
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "worker/job/job.h"

namespace millrace::worker {

class Gathering {
 public:
  // What is left of kWorkAhead when kGather is over covers the time until the next LEASE.
  static constexpr Millis kGather{4}, kWorkAhead{6};

  void collected(const std::vector<Finished>& ends) {
    all_done_ = std::all_of(ends.begin(), ends.end(), [](const Finished& end) {
      return end.completion.kind == Completion::Kind::done;
    });
    collect_at_.reset();
  }
  // `work_ahead`: how long the threads would work without another LEASE.
  void delivered(std::chrono::nanoseconds work_ahead, Mono now) {
    if (all_done_ && work_ahead >= kWorkAhead) collect_at_ = now + kGather;
  }
  void end() { collect_at_.reset(); }

  std::optional<Mono> collect_at() const { return collect_at_; }

 private:
  std::optional<Mono> collect_at_;
  bool all_done_ = true;
};

}  // namespace millrace::worker
