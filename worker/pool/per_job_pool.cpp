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
    auto worker_thread = std::make_unique<OneJob>(next_queue());
    OneJob& one = *worker_thread;
    one.job = waiting_.pop();
    Job copy = one.job;  // of some pointers and numbers
    if (start(std::move(worker_thread))) continue;
    if (live_ > 0) return waiting_.push_front(std::move(copy));
    fail(copy);
  }
}

void PerJobPool::fail(const Job& job) {
  next_queue().put({job.lease,
                    Completion::failed(Completion::Kind::released,
                                       "the worker can't make a thread for this job"),
                    {},
                    {},
                    job.source});
  setup_.listener();
}

void PerJobPool::work(WorkerThread& worker_thread) {
  auto& one = static_cast<OneJob&>(worker_thread);
  run(worker_thread, one.job, read_clock());
  one.job = {};
  std::lock_guard lock(lock_);
  leave(worker_thread);  // before the next one: two that end at the same time must not count each
                         // other
  start_waiting();
}

}  // namespace millrace::worker
