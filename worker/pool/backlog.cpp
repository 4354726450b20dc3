#include "worker/pool/backlog.h"

#include <algorithm>

#include "common/base/time.h"
#include "worker/pool/worker_thread.h"

namespace millrace::worker {

// The clock is read when the first job comes and when the last one goes, not for each.
void Backlog::note() {
  if (jobs_.empty() == noted_empty_) return;
  noted_empty_ = jobs_.empty();
  Mono now = read_clock();
  if (noted_empty_) {
    waited_ += now - since_;
  } else {
    since_ = now;
  }
}

void Backlog::push(std::vector<Job> jobs) {
  for (Job& job : jobs) jobs_.push_back(std::move(job));
  note();
}

void Backlog::push_front(Job job) {
  jobs_.push_front(std::move(job));
  note();
}

Job Backlog::pop() {
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  note();
  return job;
}

template <typename IsMeant>
std::vector<protocol::Lease> Backlog::take_if(IsMeant&& is_meant) {
  std::vector<protocol::Lease> taken;
  std::erase_if(jobs_, [&](const Job& job) {
    if (!is_meant(job)) return false;
    taken.push_back(job.lease);
    return true;
  });
  note();
  return taken;
}

std::vector<protocol::Lease> Backlog::take(const std::vector<protocol::Lease>& leases,
                                           Source source) {
  return take_if([&](const Job& job) {
    return job.source == source &&
           std::binary_search(leases.begin(), leases.end(), job.lease, lease_before);
  });
}

std::vector<protocol::Lease> Backlog::take_all(Source source) {
  return take_if([source](const Job& job) { return job.source == source; });
}

void Backlog::clear() {
  jobs_.clear();
  note();
}

std::chrono::nanoseconds Backlog::waited(Mono now) const {
  return noted_empty_ ? waited_ : waited_ + (now - since_);
}

}  // namespace millrace::worker
