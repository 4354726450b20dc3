// Operations of people that concern many jobs at once: purge a queue, retry or drop the dead. The
// core does them in slices between its other work, so that a million jobs stop no heartbeat.
// Shape:   start() → a slice in each Operations::advance(), in turn with the other pending ones → done
//          1. What was there when it was asked for is meant: jobs accepted or dead later are left out.
//          2. A slice goes by job id, from `next` on; its jobs end in one record.
//          3. It is not durable: a restart ends it, and what the slices before did stays done.
// Limits:  kMaxPending at a time; the last kMaxEnded that are done can be asked for
// Threads: one
#pragma once

#include <deque>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/state/id_set.h"
#include "common/base/time.h"

namespace millrace::core {

enum class BulkKind : uint8_t { purge, retry, drop };

// Which of the dead jobs people mean; every condition that is set has to hold.
struct DeadFilter {
  std::vector<JobRange> jobs;  // empty: all
  std::string queue;
  std::string error;  // a part of the last error
  Millis older{0};    // since the last attempt ended
};

struct BulkRequest {
  BulkKind kind = BulkKind::purge;
  std::string queue;  // purge
  DeadFilter filter;  // retry, drop
};

struct BulkOperation {
  uint64_t number = 0;
  BulkRequest request;
  WallMs asked_at;
  JobId next, end;        // where the next slice begins, and the first job that came too late
  uint64_t total = 0;     // jobs to look at, as known when it was asked for
  uint64_t examined = 0;  // of them so far
  uint64_t changed = 0;   // of these
  bool done = false;
  IdSet named;       // the filter's jobs
  IdSet died_since;  // jobs from `next` on that are dead only since it was asked for
};

class BulkOperations {
 public:
  static constexpr size_t kMaxPending = 16, kMaxEnded = 64;

  // Null when too many are pending.
  BulkOperation* start(BulkRequest request) {
    if (pending_.size() == kMaxPending) return nullptr;
    BulkOperation& operation = pending_.emplace_back();
    operation.number = ++last_number_;
    for (const JobRange& jobs : request.filter.jobs) operation.named.insert(jobs);
    operation.request = std::move(request);
    return &operation;
  }
  // The one whose turn it is; null when none is pending.
  const BulkOperation* next() const { return pending_.empty() ? nullptr : &pending_.front(); }
  BulkOperation* next() { return pending_.empty() ? nullptr : &pending_.front(); }
  // Its slice is over: it goes behind the others, or to those that have ended.
  void end_turn() {
    if (!pending_.front().done) {
      pending_.splice(pending_.end(), pending_, pending_.begin());
      return;
    }
    pending_.front().named = pending_.front().died_since = IdSet();
    ended_.push_back(std::move(pending_.front()));
    pending_.pop_front();
    if (ended_.size() > kMaxEnded) ended_.pop_front();
  }
  void died(JobId job) {
    for (BulkOperation& operation : pending_)
      if (operation.request.kind != BulkKind::purge && job >= operation.next)
        operation.died_since.insert(job);
  }
  const BulkOperation* find(uint64_t number) const {
    for (const BulkOperation& operation : pending_)
      if (operation.number == number) return &operation;
    for (const BulkOperation& operation : ended_)
      if (operation.number == number) return &operation;
    return nullptr;
  }
  size_t pending() const { return pending_.size(); }
  uint64_t memory_bytes() const {
    uint64_t bytes = ended_.size() * sizeof(BulkOperation);
    for (const BulkOperation& operation : pending_)
      bytes += sizeof(operation) + operation.named.memory_bytes() +
               operation.died_since.memory_bytes() +
               operation.request.filter.jobs.capacity() * sizeof(JobRange);
    return bytes;
  }

 private:
  std::list<BulkOperation> pending_;
  std::deque<BulkOperation> ended_;  // the oldest first
  uint64_t last_number_ = 0;
};

}  // namespace millrace::core
