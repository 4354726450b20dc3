#include "worker/pool/per_job_pool.h"

#include "common/base/time.h"

namespace millrace::worker {

PerJobPool::PerJobPool(PoolSetup setup, size_t max) : ThreadPool(std::move(setup), max) {
  std::lock_guard lock(lock_);
  note_size("a thread for each job, at most so many");
}

void PerJobPool::submit(std::vector<Job> jobs) {
  received(jobs);
  std::lock_guard lock(lock_);
  waiting_.push(std::move(jobs));
  start_waiting();
}

void PerJobPool::start_waiting() {
  while (!waiting_.empty() && !ending_ && live_ < wanted_ && may_take()) {
    auto seat = std::make_unique<OneJob>(next_box());
    OneJob& one = *seat;
    one.job = waiting_.pop();
    Job copy = one.job;  // of some pointers and numbers
    if (start(std::move(seat))) continue;
    if (live_ > 0) return waiting_.push_front(std::move(copy));
    fail(copy);
  }
}

void PerJobPool::fail(const Job& job) {
  next_box().put({job.lease,
                  Completion::failed(Completion::Kind::released,
                                     "the worker can't make a thread for this job"),
                  {},
                  {},
                  job.source});
  setup_.listener();
}

void PerJobPool::work(Seat& seat) {
  auto& one = static_cast<OneJob&>(seat);
  run(seat, one.job, read_clock());
  one.job = {};
  std::lock_guard lock(lock_);
  leave(seat);  // before the next one: two that end at the same time must not count each other
  start_waiting();
}

}  // namespace millrace::worker
