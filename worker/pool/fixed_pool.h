// N threads, made once: each waits, takes a job, runs it, and hands its end back.
// Shape:   submit() → backlog → a thread's bench of 1 to kBench jobs → handler → collect()
//          1. Jobs start in the order of submit(), but for what a slow job had on its bench.
//          2. A thread whose jobs are tiny (mean below kTiny) takes several per lock. They lie on
//             its bench, from where any thread that looks for work takes them back once the one in
//             front has run for kSlow, or once nothing else waits: a slow job holds nobody up.
//          3. Each end can be collected as soon as it is there; the listener is told once for all
//             that it has not collected.
//          4. resize() makes threads at once, and lets those leave that find nothing to do first.
// Threads: see worker/pool/pool.h
// Source:  a lock for each job costs 100 to 400 ns as soon as two threads meet there, as much as an
//          echo; a lock-free queue was not needed to get below that.
#pragma once

#include <array>

#include "worker/pool/thread_pool.h"

namespace millrace::worker {

// What its threads have been at until now.
struct PoolLoad {
  std::chrono::nanoseconds busy{0};    // in handlers, of all threads together
  std::chrono::nanoseconds waited{0};  // time in which jobs waited for a thread
  std::vector<pid_t> threads;
};

class FixedPool final : public ThreadPool {
 public:
  static constexpr size_t kBench = 32;
  static constexpr std::chrono::nanoseconds kTiny = std::chrono::microseconds(20);
  static constexpr std::chrono::nanoseconds kSlow = std::chrono::milliseconds(1);

  FixedPool(PoolSetup setup, size_t threads);
  ~FixedPool() override { end(); }

  void submit(std::vector<Job> jobs) override;

  void resize(size_t threads, std::string_view why);
  PoolLoad load(Mono now) const;

 private:
  // The bench is filled under lock_ by its owner; whoever moves `next` on owns the jobs that it
  // passed: the owner one at a time, others all the rest, under lock_.
  struct QueuedThread : WorkerThread {
    using WorkerThread::WorkerThread;
    std::array<Job, kBench> jobs;
    size_t count = 0;
    std::atomic<size_t> next{0};
    std::atomic<Mono::rep> since{0};  // when the job in front started
    double mean_run_ns = 0;           // of the owner
  };

  void work(WorkerThread& worker_thread) override;
  void replace() override;
  void take_back() override { take_back(Mono::max()); }
  // Waits for jobs and puts some on the bench; false when the thread is to leave.
  bool refill(QueuedThread& bench, Mono now);
  size_t share(const QueuedThread& bench) const;
  // Puts back on the backlog what others have on their benches behind a job older than `started`.
  void take_back(Mono started);
  void take_back(QueuedThread& bench);  // under lock_
  void put_back(QueuedThread& bench, size_t at);

  size_t idle_ = 0;
};

}  // namespace millrace::worker
