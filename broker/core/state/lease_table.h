// The leases: found by their job, by their worker, and by the time at which they end.
// Shape:   insert, erase, extend: O(1); leases of a worker: O(those); take_due(): O(those whose time to
//          be looked at has come)
//          1. A worker's leases are in the order of their epochs: the order in which it was given them.
//          2. Each lease is in one bucket of a timer wheel, no later than the end it had when it was
//             put there. An extension does not move it: it is put on when its bucket comes.
// Units:   buckets of kTick; a lease that lasts longer than the wheel turns is looked at once a turn
// Limits:  80 bytes a lease, some 60 more for the hash table; most of it is freed when few leases are left
// Owns:    the leases. find()'s pointer holds until the next insert or erase
// Threads: one
// Source:  Varghese and Lauck, hashed timing wheels; a heap would keep what ended long before its time
#pragma once

#include <tsl/robin_map.h>

#include <array>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace millrace::core {

using WorkerIndex = uint32_t;

struct LeaseInfo {
  Epoch epoch;
  WorkerIndex worker = 0;
  uint32_t lasts_ms = 0;  // as its LEASE said, if not the broker's default; this process only
  Mono since;             // when it began, or was last extended; this process only
};

class LeaseTable {
 public:
  LeaseTable() { heads_.fill(kNone); }

  void set_default_duration(Millis lasts) { default_ = lasts; }
  Millis duration(const LeaseInfo& lease) const {
    return lease.lasts_ms > 0 ? Millis(lease.lasts_ms) : default_;
  }

  const LeaseInfo* find(JobId job) const;
  void insert(JobId job, const LeaseInfo& lease);  // the job must not have one
  void erase(JobId job);                           // it must be there
  void extend(JobId job, Mono now);
  void set_duration(JobId job, Millis lasts);
  // Whether its worker was asked to give it back; this process only.
  bool is_recalled(JobId job) const;
  void set_recalled(JobId job, bool recalled);
  size_t size() const { return by_job_.size(); }
  uint64_t memory_bytes() const;

  // Leases that have ended by now, at most so many; the rest comes with the next call, as do those
  // that are neither erased nor extended until then.
  std::vector<JobId> take_due(Mono now, size_t most);

  // The epoch of the worker's n-th oldest lease, or of its newest if it has fewer than n; 0 if it
  // has none. A worker with n threads starts jobs in the order of their epochs, n at a time: so
  // those of its leases that it may have started are the ones up to this epoch, and the others wait
  // there.
  Epoch nth_epoch(WorkerIndex worker, uint64_t n);

  // visit(job, lease), in no order.
  template <typename Visit>
  void for_each_of(WorkerIndex worker, Visit&& visit) const {
    if (worker >= of_worker_.size()) return;
    for (uint32_t at = of_worker_[worker].newest; at != kNone; at = slots_[at].worker.next)
      visit(slots_[at].job, slots_[at].lease);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kBuckets = 1024;
  static constexpr Millis kTick{64};

  struct Links {
    uint32_t previous = kNone, next = kNone;
  };
  struct Slot {
    JobId job;
    LeaseInfo lease;
    Links worker, bucket;
    uint32_t in_bucket = 0;
    bool recalled = false;
  };

  // Of one worker, the newest first. A restart and claims bring older epochs later; then it is
  // sorted when the order is next asked for.
  struct OfWorker {
    uint32_t newest = kNone, oldest = kNone;
    bool sorted = true;
  };

  void link_to_worker(uint32_t at);
  void unlink_from_worker(uint32_t at);
  void sort(OfWorker& leases);
  void shrink();
  void link(uint32_t* head, Links Slot::*links, uint32_t at);
  void unlink(uint32_t* head, Links Slot::*links, uint32_t at);
  void put_in_bucket(uint32_t at, int64_t earliest);
  void move_to_bucket(uint32_t at, int64_t earliest);
  Mono end_of(const Slot& slot) const { return slot.lease.since + duration(slot.lease); }

  Millis default_{30000};
  tsl::robin_map<JobId, uint32_t> by_job_;
  std::vector<Slot> slots_;
  uint32_t free_ = kNone;  // slots without a lease, linked by worker.next
  std::vector<OfWorker> of_worker_;
  std::array<uint32_t, kBuckets> heads_;
  int64_t looked_at_ = 0;  // the last tick that take_due() has done with
};

}  // namespace millrace::core
