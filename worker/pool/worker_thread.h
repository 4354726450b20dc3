// What one thread of a pool is at: the job that it runs, since when, and the way to stop it; and
// where the ends of jobs wait until they are collected.
// Shape:   run() on the WorkerThread's thread; stop(), expire() and the rest from others
//          1. A stop reaches the job that it was meant for, never the one behind it.
//          2. Once a job was expired, what its handler returns is dropped. Its end is in the box at
//             once; if the handler ends_when_stopped(), when it returns, or at give_up().
// Owns:    nothing outside; the ends' box must outlive it
// Threads: internally locked
#pragma once

#include <sys/types.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "worker/pool/pool.h"

namespace millrace::worker {

// Ends of jobs, until somebody collects them.
class alignas(64) CompletionQueue {
 public:
  void put(Finished end);
  void collect(std::vector<Finished>* all);

 private:
  std::mutex lock_;
  std::vector<Finished> ends_;
};

class WorkerThread {
 public:
  explicit WorkerThread(CompletionQueue& ends) : ends_(ends) {}
  virtual ~WorkerThread() = default;
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  // Runs a job from `now` on, puts its end into the box, and returns when that was. `stopping`
  // holds for jobs that begin after everything has been told to stop.
  Mono run(const Job& job, const QueueHandler& queue, Mono now, Boottime start_before,
           const std::atomic<bool>& stopping);

  // Tells the handler to stop, if it runs one of these; sorted by lease_before().
  void stop(const std::vector<protocol::Lease>& leases, Source source);
  void stop();
  // The job has timed out if it began at `before` or earlier: tells its handler to stop. Whether
  // its end is in the box.
  bool expire(Mono before, Mono now, Millis timeout);
  // Waits no longer for the handler of an expired job. Whether that puts its end into the box.
  bool give_up(Mono now);
  // The name of a job that was expired at `before` or earlier and runs on.
  std::optional<std::string> stuck_since(Mono before) const;

  bool running() const;
  // Time in handlers, up to now.
  std::chrono::nanoseconds busy(Mono now) const;

  // Of the pool, under its lock.
  std::thread thread;
  pid_t tid = 0;
  bool retired = false;  // its thread is stuck
  bool leaving = false;

 private:
  // expired: its end is yet to come; reported: it is in the box.
  enum class State { idle, runs, expired, reported };

  void report_expired(Mono now);

  CompletionQueue& ends_;
  mutable std::mutex lock_;
  State state_ = State::idle;
  protocol::Lease lease_;
  BrokerId broker_;
  Source source_ = 0;
  Mono since_{};
  Mono waited_since_{};
  bool ends_when_stopped_ = false;
  Mono expired_at_{};
  Millis timeout_{};
  std::chrono::nanoseconds busy_{0};
  StopSignal stop_;
};

bool lease_before(protocol::Lease a, protocol::Lease b);

}  // namespace millrace::worker
