// One thread that runs one job after the other, in their order.
// Threads: see worker/pool/pool.h
#pragma once

#include "worker/pool/thread_pool.h"

namespace millrace::worker {

class SinglePool final : public ThreadPool {
 public:
  explicit SinglePool(PoolSetup setup);
  ~SinglePool() override { end(); }

  void submit(std::vector<Job> jobs) override;

 private:
  void work(WorkerThread& worker_thread) override;
  void replace() override;
};

}  // namespace millrace::worker
