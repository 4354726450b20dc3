// The queues that a status shows: those with the most jobs, and the sums of the others. The core's
// thread looks at a part of the table in each round, so that 100,000 queues stop no heartbeat.
// Shape:   advance() in each round until it returns true; then move_to(), which begins anew
// Limits:  looks_per_round queues a round, kMaxQueuesListed are shown
// Threads: the core's
#pragma once

#include <tuple>
#include <vector>

#include "broker/admin/status.h"
#include "broker/core/core.h"

namespace millrace::listing {

admin::QueueStatus queue_status(const core::Core& core, core::QueueIndex index);

class QueueListing {
 public:
  explicit QueueListing(size_t looks_per_round = 4096) : looks_per_round_(looks_per_round) {}

  // True: all have been seen.
  bool advance(const core::Core& core);
  bool is_running() const { return next_ > 0; }
  void move_to(admin::Status* status);

 private:
  struct Entry {
    uint64_t jobs = 0, done = 0;
    core::QueueIndex index = 0;
    admin::QueueStatus queue;
    // Which is shown rather.
    bool operator<(const Entry& other) const {
      return std::tie(jobs, done, other.index) > std::tie(other.jobs, other.done, index);
    }
  };
  void see(Entry entry);
  void leave_out(const admin::QueueStatus& queue);

  size_t looks_per_round_;
  core::QueueIndex next_ = 0;
  std::vector<Entry> shown_;  // a heap: the first is the one that goes next
  admin::QueueSums others_;
};

}  // namespace millrace::listing
