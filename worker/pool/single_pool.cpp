#include "worker/pool/single_pool.h"

#include "common/base/time.h"

namespace millrace::worker {

SinglePool::SinglePool(PoolSetup setup) : ThreadPool(std::move(setup), 1) {
  std::lock_guard lock(lock_);
  replace();
  note_size("single");
}

void SinglePool::replace() { start(std::make_unique<WorkerThread>(next_queue())); }

void SinglePool::submit(std::vector<Job> jobs) {
  received(jobs);
  std::lock_guard lock(lock_);
  waiting_.push(std::move(jobs));
  arrived_.notify_one();
}

void SinglePool::work(WorkerThread& worker_thread) {
  std::unique_lock lock(lock_);
  for (;;) {
    arrived_.wait(lock, [&] { return leaves(worker_thread) || (!waiting_.empty() && may_take()); });
    if (leaves(worker_thread)) return leave(worker_thread);
    Job job = waiting_.pop();
    lock.unlock();
    run(worker_thread, job, read_clock());
    job = {};  // its payload goes without the lock
    lock.lock();
  }
}

}  // namespace millrace::worker
