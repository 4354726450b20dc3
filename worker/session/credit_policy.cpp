#include "worker/session/credit_policy.h"

#include <algorithm>

namespace millrace::worker {

CreditPolicy::CreditPolicy(uint64_t threads, std::optional<uint64_t> fixed)
    : threads_(threads), fixed_(fixed.has_value()), credit_(fixed.value_or(threads)) {}

void CreditPolicy::observe(std::chrono::nanoseconds run) {
  // A plain mean of the first jobs, so that the credit is right after a few of them.
  seen_ = std::min(seen_ + 1, kMemory);
  mean_ns_ += (double(run.count()) - mean_ns_) / seen_;
}

void CreditPolicy::set_threads(uint64_t threads) {
  threads_ = threads;
  if (!fixed_) credit_ = wanted();
}

uint64_t CreditPolicy::wanted() const {
  if (seen_ == 0) return threads_;
  const uint64_t least = threads_ + 1;
  double jobs = double(threads_) * double(kAhead.count()) / std::max(mean_ns_, 1.0);
  return std::max(least, uint64_t(std::min(jobs + 0.5, double(kMaxCredit))));
}

bool CreditPolicy::update() {
  if (fixed_) return false;
  uint64_t next = wanted();
  uint64_t change = next > credit_ ? next - credit_ : credit_ - next;
  if (change * 5 <= credit_) return false;
  credit_ = next;
  return true;
}

std::chrono::nanoseconds CreditPolicy::work_ahead(uint64_t unfinished) const {
  if (unfinished <= threads_) return {};
  return std::chrono::nanoseconds(
      int64_t(double(unfinished - threads_) / double(threads_) * mean_ns_));
}

}  // namespace millrace::worker
