// What all pools have in common: WorkerThreads with threads, a backlog, and what is done about
// jobs that run too long. A pool adds how jobs get to threads.
// Shape:   see worker/pool/pool.h. Threads leave by themselves when there are more than wanted; the
//          owner joins them in collect().
// Limits:  where no thread can be made, there are fewer; where there is none, too_many_stuck() says so
// Owns:    the threads. A pool's destructor calls end() first, since its threads use it.
// Threads: lock_ guards all that is below it; a WorkerThread and the boxes lock themselves
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>

#include "worker/pool/backlog.h"
#include "worker/pool/start_gate.h"
#include "worker/pool/worker_thread.h"

namespace millrace::worker {

class ThreadPool : public Pool {
 public:
  std::vector<Finished> collect() override;
  void forget(const std::vector<protocol::Lease>& leases, Source source) override;
  std::vector<protocol::Lease> take(std::vector<protocol::Lease> leases, Source source) override;
  std::vector<protocol::Lease> take_waiting(Source source) override;
  void allow_starts_until(Mono until) override;
  bool may_start() const override { return gate_.is_open(); }
  void tick(Mono now) override;
  Mono wake_at() const override;
  size_t threads() const override;
  bool too_many_stuck() const override;
  PoolStats stats() const override;
  void stop() override;
  bool close(Millis timeout) override;

 protected:
  ThreadPool(PoolSetup setup, size_t wanted);
  ~ThreadPool() override;
  // Like close(), without a limit.
  void end();

  // What a WorkerThread's thread does until it leaves; called without lock_.
  virtual void work(WorkerThread& worker_thread) = 0;
  // A thread for what was lost to a stuck one. Under lock_.
  virtual void replace() = 0;
  // Brings back what waits elsewhere than in the backlog. Under lock_.
  virtual void take_back() {}

  // Threads may take jobs again. Under lock_.
  virtual void resume() { arrived_.notify_all(); }
  // Whether a thread may take a job; if not, resume() will tell. Under lock_.
  bool may_take();

  CompletionQueue& next_queue() { return queues_[next_queue_++ % queues_.size()]; }
  // Gives a WorkerThread its thread; false when the system has none. Under lock_.
  bool start(std::unique_ptr<WorkerThread> worker_thread);
  // Whether this WorkerThread's thread should end; and that it does. Under lock_.
  bool leaves(const WorkerThread& worker_thread) const {
    return ending_ || worker_thread.retired || live_ > wanted_;
  }
  void leave(WorkerThread& worker_thread);
  // Runs a job on its WorkerThread's thread, and tells the listener.
  Mono run(WorkerThread& worker_thread, const Job& job, Mono now);
  void note_size(std::string_view why);
  // Time in handlers, of all threads together. Under lock_.
  std::chrono::nanoseconds busy(Mono now) const;
  // The jobs as they are handed in.
  void received(std::vector<Job>& jobs);

  const PoolSetup setup_;
  StartGate gate_;

  mutable std::mutex lock_;
  std::condition_variable arrived_;
  Backlog waiting_;
  std::list<std::unique_ptr<WorkerThread>> worker_threads_;
  size_t wanted_;    // threads
  size_t live_ = 0;  // threads whose WorkerThreads are neither retired nor leaving
  bool ending_ = false;

 private:
  void attend(std::list<std::unique_ptr<WorkerThread>>::iterator worker_thread);
  void reap();
  bool retire_stuck(Mono now);
  void tell();

  std::array<CompletionQueue, 16> queues_;
  size_t next_queue_ = 0;
  std::atomic<bool> told_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> held_up_{false};  // a job waits for the gate

  // Under lock_
  std::list<std::unique_ptr<WorkerThread>> gone_;
  std::condition_variable left_;
  size_t stuck_ = 0;
  std::chrono::nanoseconds busy_before_{0};  // of WorkerThreads that count no more
  std::vector<PoolSize> sizes_;

  // The owner's
  size_t outstanding_ = 0;  // jobs that have not come back
  size_t expired_ = 0;      // WorkerThreads that were, when last looked at
  Mono wake_at_{};
};

}  // namespace millrace::worker
