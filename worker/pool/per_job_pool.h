// A new thread for each job, which ends with it: what a thread costs can be seen here.
// Shape:   up to MAX at a time; beyond it jobs wait, and a thread that ends makes the next one
// Errors:  where the system has no thread left, a job waits for one of the others to end; where
//          there is no other, it is released
// Threads: see worker/pool/pool.h
#pragma once

#include "worker/pool/thread_pool.h"

namespace millrace::worker {

class PerJobPool final : public ThreadPool {
 public:
  PerJobPool(PoolSetup setup, size_t max);
  ~PerJobPool() override { end(); }

  void submit(std::vector<Job> jobs) override;

 private:
  struct OneJob : WorkerThread {
    using WorkerThread::WorkerThread;
    Job job;
  };

  void work(WorkerThread& worker_thread) override;
  void replace() override { start_waiting(); }
  void resume() override { start_waiting(); }
  // Threads for what waits, while there are fewer than MAX. Under lock_.
  void start_waiting();
  void fail(const Job& job);
};

}  // namespace millrace::worker
