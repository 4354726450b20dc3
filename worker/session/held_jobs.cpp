#include "worker/session/held_jobs.h"

#include "common/base/check.h"

namespace millrace::worker {

using protocol::Lease;

HeldJobs::Granted HeldJobs::grant(Lease lease, bool wants_result, Mono now) {
  auto [at, inserted] = jobs_.try_emplace(lease.job, Held{lease.epoch, now, wants_result, false});
  if (inserted) return {true, {}};
  Held& held = at.value();
  if (held.epoch >= lease.epoch) return {false, {}};
  MILLRACE_CHECK(finished_ >= size_t(held.finished));
  finished_ -= held.finished;
  Epoch replaced = held.epoch;
  held = {lease.epoch, now, wants_result, false};
  return {true, replaced};
}

HeldJobs::End HeldJobs::finish(Lease lease) {
  auto at = jobs_.find(lease.job);
  if (at == jobs_.end() || at->second.epoch != lease.epoch || at->second.finished)
    return End::unknown;
  at.value().finished = true;
  ++finished_;
  MILLRACE_CHECK(finished_ <= jobs_.size());
  return at->second.wants_result ? End::wants_result : End::plain;
}

void HeldJobs::erase(Lease lease) {
  auto at = jobs_.find(lease.job);
  if (at == jobs_.end() || at->second.epoch != lease.epoch) return;
  MILLRACE_CHECK(finished_ >= size_t(at->second.finished));
  finished_ -= at->second.finished;
  jobs_.erase(lease.job);  // by key: by iterator it would look for the next one, in a sparse table
}

std::vector<Lease> HeldJobs::claims() const {
  std::vector<Lease> leases;
  leases.reserve(jobs_.size());
  for (const auto& [job, held] : jobs_) leases.push_back({job, held.epoch});
  return leases;
}

std::vector<Lease> HeldJobs::unfinished() const {
  std::vector<Lease> leases;
  for (const auto& [job, held] : jobs_) {
    if (!held.finished) leases.push_back({job, held.epoch});
  }
  MILLRACE_CHECK(leases.size() == jobs_.size() - finished_);
  return leases;
}

bool HeldJobs::is_unfinished(Lease lease) const {
  auto at = jobs_.find(lease.job);
  return at != jobs_.end() && at->second.epoch == lease.epoch && !at->second.finished;
}

std::vector<Lease> HeldJobs::take_overdue(Mono before, Mono now) {
  std::vector<Lease> leases;
  for (auto at = jobs_.begin(); at != jobs_.end(); ++at) {
    Held& held = at.value();
    if (held.finished || held.extended > before) continue;
    held.extended = now;
    leases.push_back({at->first, held.epoch});
  }
  return leases;
}

bool HeldJobs::take_overdue(Lease lease, Mono before, Mono now) {
  auto at = jobs_.find(lease.job);
  if (at == jobs_.end() || at->second.epoch != lease.epoch || at->second.extended > before)
    return false;
  at.value().extended = now;
  return true;
}

void HeldJobs::renew(Mono now) {
  for (auto at = jobs_.begin(); at != jobs_.end(); ++at) at.value().extended = now;
}

}  // namespace millrace::worker
