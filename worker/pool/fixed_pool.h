// N threads, made once: each waits, takes a job, runs it, and hands its end back.
// Shape:   submit() → queue → a thread's bench of 1 to kBench jobs → handler → collect()
//          1. Jobs start in the order of submit(), but for what a slow job had on its bench.
//          2. A thread whose jobs are tiny (mean below kTiny) takes several per lock. They lie on
//             its bench, from where any thread that looks for work takes them back once the one in
//             front has run for kSlow, or once nothing else waits: a slow job holds nobody up.
//          3. Each end can be collected as soon as it is there; the listener is told once for all
//             that it has not collected.
// Owns:    the threads, which end with it; handlers and stop must outlive it
// Threads: all of it from any thread; the listener is called by the pool's
// Source:  a lock for each job costs 100 to 400 ns as soon as two threads meet there, as much as an
//          echo; a lock-free queue was not needed to get below that.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "worker/handlers/handler.h"
#include "worker/job.h"

namespace millrace::worker {

// A queue of the worker and what does its work.
struct QueueHandler {
  std::string queue;
  std::unique_ptr<Handler> handler;
};

class FixedPool {
 public:
  static constexpr size_t kBench = 32;
  static constexpr std::chrono::nanoseconds kTiny = std::chrono::microseconds(20);
  static constexpr std::chrono::nanoseconds kSlow = std::chrono::milliseconds(1);

  // `listener` is called when the first end comes after a collect(); it must not block.
  FixedPool(size_t threads, const std::vector<QueueHandler>& handlers, const StopSignal& stop,
            std::function<void()> listener);
  // Drops what waits, and waits for what runs: set the stop signal to make that short.
  ~FixedPool();
  FixedPool(const FixedPool&) = delete;
  FixedPool& operator=(const FixedPool&) = delete;

  void submit(std::vector<Job> jobs);
  std::vector<Finished> collect();

  // Takes out what has not started: of these leases, or all.
  void forget(const std::vector<protocol::Lease>& leases);
  std::vector<protocol::Lease> take_waiting();

  size_t threads() const { return seats_.size(); }

 private:
  using Clock = std::chrono::steady_clock;

  // One thread's place. The bench is filled under lock_ by its owner; whoever moves `next` on owns
  // the jobs that it passed: the owner one at a time, others all the rest, under lock_.
  struct alignas(64) Seat {
    std::array<Job, kBench> bench;
    size_t count = 0;
    std::atomic<size_t> next{0};
    std::atomic<Clock::rep> since{0};  // when the job in front started
    double mean_run_ns = 0;            // of the owner

    alignas(64) std::mutex ends_lock;
    std::vector<Finished> ends;
    std::thread thread;
  };

  void work(Seat& seat);
  void run(Seat& seat, const Job& job, Clock::time_point* now);
  void hand_back(Seat& seat, Finished end);
  // Waits for jobs and puts some on the bench; false when the pool ends.
  bool refill(Seat& seat, Clock::time_point now);
  void wait_for_jobs(std::unique_lock<std::mutex>& lock);
  size_t share(const Seat& seat) const;
  // Puts back on the queue what others have on their benches behind a job older than `started`.
  void take_back(Clock::rep started);

  const std::vector<QueueHandler>& handlers_;
  const StopSignal& stop_;
  std::function<void()> listener_;
  std::atomic<bool> told_{false};

  std::mutex lock_;
  std::condition_variable arrived_;
  std::deque<Job> waiting_;
  size_t idle_ = 0;
  bool ending_ = false;

  std::vector<std::unique_ptr<Seat>> seats_;
};

}  // namespace millrace::worker
