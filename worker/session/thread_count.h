// The number of threads that the broker is told. After a crash it charges the first so many of the
// leases by epoch, so a pool that shrinks counts as the larger one until what that one may have
// started has ended.
// Shape:   set(threads, held) → told(); shrinking from N: the N oldest unfinished leases are
//          remembered, and N is told until no more of them are unfinished than there are threads now
// Limits:  told() looks at up to N leases, and only while the pool shrinks
// Threads: one
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/check.h"
#include "worker/session/held_jobs.h"

namespace millrace::worker {

class ThreadCount {
 public:
  explicit ThreadCount(uint64_t threads) : threads_(threads), told_(threads) {}

  uint64_t now() const { return threads_; }

  void set(uint64_t threads, const HeldJobs& held) {
    threads_ = threads;
    if (threads >= told_) return settle();
    may_run_ = held.unfinished();
    std::sort(may_run_.begin(), may_run_.end(),
              [](const auto& one, const auto& other) { return one.epoch < other.epoch; });
    if (may_run_.size() > told_) may_run_.resize(told_);
  }

  uint64_t told(const HeldJobs& held) {
    if (told_ == threads_) return told_;
    std::erase_if(may_run_, [&](const auto& lease) { return !held.is_unfinished(lease); });
    if (may_run_.size() <= threads_) settle();
    MILLRACE_CHECK(told_ >= threads_ && may_run_.size() <= told_);
    return told_;
  }

 private:
  void settle() {
    told_ = threads_;
    may_run_.clear();
  }

  uint64_t threads_, told_;
  std::vector<protocol::Lease> may_run_;
};

}  // namespace millrace::worker
