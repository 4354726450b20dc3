// The jobs of a pool that no thread has taken yet, and for how long there were any.
// Shape:   first come, first served; what comes back goes to the front
// Threads: one at a time: the pool's lock
#pragma once

#include <deque>
#include <vector>

#include "worker/job/job.h"

namespace millrace::worker {

class Backlog {
 public:
  void push(std::vector<Job> jobs);
  void push_front(Job job);
  Job pop();
  // Takes out those of these leases, which are sorted by lease_before().
  std::vector<protocol::Lease> take(const std::vector<protocol::Lease>& leases, Source source);
  std::vector<protocol::Lease> take_all(Source source);
  void clear();

  bool empty() const { return jobs_.empty(); }
  size_t size() const { return jobs_.size(); }
  // All the time in which jobs waited.
  std::chrono::nanoseconds waited(Mono now) const;

 private:
  template <typename IsMeant>
  std::vector<protocol::Lease> take_if(IsMeant&& is_meant);
  void note();

  std::deque<Job> jobs_;
  bool noted_empty_ = true;
  Mono since_{};
  std::chrono::nanoseconds waited_{0};
};

}  // namespace millrace::worker
