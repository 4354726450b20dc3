#include "broker/core/state/lease_table.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::core {
namespace {

int64_t tick_at(Mono time, Millis tick) { return time.time_since_epoch() / tick; }

}  // namespace

const LeaseInfo* LeaseTable::find(JobId job) const {
  auto found = by_job_.find(job);
  return found == by_job_.end() ? nullptr : &slots_[found->second].lease;
}

void LeaseTable::insert(JobId job, const LeaseInfo& lease) {
  uint32_t at = free_;
  if (at == kNone) {
    at = uint32_t(slots_.size());
    slots_.emplace_back();
  } else {
    free_ = slots_[at].worker.next;
  }
  MILLRACE_CHECK(by_job_.emplace(job, at).second);
  slots_[at] = {job, lease, {}, {}, 0, false};
  link_to_worker(at);
  put_in_bucket(at, looked_at_ + 1);
}

void LeaseTable::erase(JobId job) {
  auto found = by_job_.find(job);
  MILLRACE_CHECK(found != by_job_.end());
  const uint32_t at = found->second;
  by_job_.erase(found);
  Slot& slot = slots_[at];
  MILLRACE_CHECK(slot.job == job);
  unlink_from_worker(at);
  unlink(&heads_[slot.in_bucket], &Slot::bucket, at);
  slot.worker.next = std::exchange(free_, at);
  constexpr size_t kWorthKeeping = 64, kSparse = 8;
  if (slots_.size() > kWorthKeeping && by_job_.size() < slots_.size() / kSparse) shrink();
}

// The tables keep their largest size: those that are left move into new ones.
void LeaseTable::shrink() {
  std::vector<Slot> left;
  for (const auto& [job, at] : by_job_) left.push_back(slots_[at]);
  std::sort(left.begin(), left.end(),
            [](const Slot& x, const Slot& y) { return x.lease.epoch < y.lease.epoch; });
  by_job_ = {};
  slots_ = std::vector<Slot>();
  of_worker_ = std::vector<OfWorker>();
  heads_.fill(kNone);
  free_ = kNone;
  for (const Slot& slot : left) insert(slot.job, slot.lease);
  MILLRACE_CHECK(by_job_.size() == left.size());
}

uint64_t LeaseTable::memory_bytes() const {
  constexpr uint64_t kBucket = sizeof(decltype(by_job_)::value_type) + 8;
  return by_job_.bucket_count() * kBucket + slots_.capacity() * sizeof(Slot) +
         of_worker_.capacity() * sizeof(OfWorker);
}

Epoch LeaseTable::nth_epoch(WorkerIndex worker, uint64_t n) {
  if (worker >= of_worker_.size() || of_worker_[worker].newest == kNone || n == 0) return {};
  OfWorker& leases = of_worker_[worker];
  if (!leases.sorted) sort(leases);
  uint32_t at = leases.oldest;
  while (--n > 0 && slots_[at].worker.previous != kNone) at = slots_[at].worker.previous;
  return slots_[at].lease.epoch;
}

void LeaseTable::link_to_worker(uint32_t at) {
  const LeaseInfo& lease = slots_[at].lease;
  if (lease.worker >= of_worker_.size()) of_worker_.resize(lease.worker + 1);
  OfWorker& leases = of_worker_[lease.worker];
  if (leases.newest == kNone) {
    leases.oldest = at;
    leases.sorted = true;
  } else if (lease.epoch < slots_[leases.newest].lease.epoch) {
    leases.sorted = false;
  }
  link(&leases.newest, &Slot::worker, at);
}

void LeaseTable::unlink_from_worker(uint32_t at) {
  OfWorker& leases = of_worker_[slots_[at].lease.worker];
  MILLRACE_CHECK(leases.newest != kNone);
  if (leases.oldest == at) leases.oldest = slots_[at].worker.previous;
  unlink(&leases.newest, &Slot::worker, at);
}

void LeaseTable::sort(OfWorker& leases) {
  std::vector<uint32_t> order;
  for (uint32_t at = leases.newest; at != kNone; at = slots_[at].worker.next) order.push_back(at);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return slots_[a].lease.epoch < slots_[b].lease.epoch; });
  leases = {kNone, order.front(), true};
  for (uint32_t at : order) link(&leases.newest, &Slot::worker, at);
}

void LeaseTable::extend(JobId job, Mono now) {
  auto found = by_job_.find(job);
  MILLRACE_CHECK(found != by_job_.end());
  slots_[found->second].lease.since = now;
}

void LeaseTable::set_duration(JobId job, Millis lasts) {
  auto found = by_job_.find(job);
  MILLRACE_CHECK(found != by_job_.end() && lasts.count() > 0);
  slots_[found->second].lease.lasts_ms = uint32_t(std::min<int64_t>(lasts.count(), UINT32_MAX));
  move_to_bucket(found->second, looked_at_ + 1);  // it may end earlier now
}

bool LeaseTable::is_recalled(JobId job) const {
  auto found = by_job_.find(job);
  return found != by_job_.end() && slots_[found->second].recalled;
}

void LeaseTable::set_recalled(JobId job, bool recalled) {
  auto found = by_job_.find(job);
  MILLRACE_CHECK(found != by_job_.end());
  slots_[found->second].recalled = recalled;
}

std::vector<JobId> LeaseTable::take_due(Mono now, size_t most) {
  std::vector<JobId> due;
  const int64_t today = tick_at(now, kTick);
  looked_at_ = std::max(looked_at_, today - int64_t(kBuckets));  // a whole turn sees all of them
  while (looked_at_ < today) {
    const int64_t tick = looked_at_ + 1;
    uint32_t next = heads_[size_t(tick) % kBuckets];
    while (next != kNone) {
      const uint32_t at = std::exchange(next, slots_[next].bucket.next);
      const bool is_due = end_of(slots_[at]) < now;
      if (is_due && due.size() == most) return due;
      if (is_due) due.push_back(slots_[at].job);
      move_to_bucket(at, today + 1);
    }
    looked_at_ = tick;
  }
  MILLRACE_CHECK(due.size() <= most);
  return due;
}

// In the bucket of its end: none before `earliest`, and none that comes round a second time.
void LeaseTable::put_in_bucket(uint32_t at, int64_t earliest) {
  const int64_t tick = std::clamp(tick_at(end_of(slots_[at]), kTick) + 1, earliest,
                                  std::max(earliest, looked_at_ + int64_t(kBuckets)));
  slots_[at].in_bucket = uint32_t(size_t(tick) % kBuckets);
  link(&heads_[slots_[at].in_bucket], &Slot::bucket, at);
}

void LeaseTable::move_to_bucket(uint32_t at, int64_t earliest) {
  unlink(&heads_[slots_[at].in_bucket], &Slot::bucket, at);
  put_in_bucket(at, earliest);
}

void LeaseTable::link(uint32_t* head, Links Slot::*links, uint32_t at) {
  slots_[at].*links = {kNone, *head};
  if (*head != kNone) (slots_[*head].*links).previous = at;
  *head = at;
}

void LeaseTable::unlink(uint32_t* head, Links Slot::*links, uint32_t at) {
  const Links own = slots_[at].*links;
  (own.previous == kNone ? *head : (slots_[own.previous].*links).next) = own.next;
  if (own.next != kNone) (slots_[own.next].*links).previous = own.previous;
}

}  // namespace millrace::core
