// The threads that run a worker's jobs, behind one interface; docs/POOLS.md says which there are.
// Shape:   submit() → a thread → handler → collect(); the listener hears that there is something to
//          collect; tick() is called from time to time
//          1. Every job that was submitted comes back once: by collect(), forget(), take() or
//             take_waiting().
//          2. A job that runs longer than the run time-out comes back as a retryable failure, and
//             its handler is told to stop; it comes back at once, or when the handler has returned
//             if that ends_when_stopped(). A thread that does not return kill_after and
//             kStuckAfter later is stuck: another takes its place, and the job comes back at last.
//             What the thread brings in the end is dropped.
//          3. A handler's exception is a retryable failure.
// Owns:    the threads; the handlers must outlive it
// Threads: one owner calls everything, but stats(), which is for any
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/time.h"
#include "worker/handlers/handler.h"
#include "worker/job/job.h"
#include "worker/pool/pool_spec.h"

namespace millrace::worker {

// A queue of the worker, or a prefix of queues, and what does its work.
struct QueueHandler {
  std::string queue;
  std::unique_ptr<Handler> handler;
};

struct PoolSetup {
  const std::vector<QueueHandler>& handlers;
  std::function<void()> listener;  // called by any thread; must not block
  std::optional<Millis> run_timeout;
  Millis kill_after{0};  // that commands get to end in
};

// A size that a pool had from then on.
struct PoolSize {
  WallMs since;
  size_t threads = 0;
  std::string_view why;
};

struct PoolStats {
  size_t threads = 0;  // that take jobs
  size_t busy = 0;
  size_t stuck = 0;
  size_t waiting = 0;           // jobs
  std::vector<PoolSize> sizes;  // oldest first, the newest kMostSizes
};

class Pool {
 public:
  static constexpr Millis kStuckAfter{2000};
  static constexpr size_t kLeastStuck = 4;
  static constexpr size_t kMostSizes = 128;

  virtual ~Pool() = default;

  virtual void submit(std::vector<Job> jobs) = 0;
  virtual std::vector<Finished> collect() = 0;
  // Takes out those of these that wait, and tells those that run to stop.
  virtual void forget(const std::vector<protocol::Lease>& leases, Source source) = 0;
  // Takes out those of these that wait, and returns them.
  virtual std::vector<protocol::Lease> take(std::vector<protocol::Lease> leases, Source source) = 0;
  virtual std::vector<protocol::Lease> take_waiting(Source source) = 0;

  // Jobs start until then, and not before it is called anew once that has passed. Until it is
  // called first they start at any time.
  virtual void allow_starts_until(Mono until) = 0;
  virtual bool may_start() const = 0;

  // Looks after time-outs, stuck threads and its size. Call it when wake_at() has come.
  virtual void tick(Mono now) = 0;
  virtual Mono wake_at() const = 0;

  // For which number of jobs there is a thread.
  virtual size_t threads() const = 0;
  // So many threads are stuck that this process had better begin anew.
  virtual bool too_many_stuck() const = 0;
  virtual PoolStats stats() const = 0;

  // Tells all that run to stop.
  virtual void stop() = 0;
  // Drops what waits and waits for what runs; false if some of it goes on after that time. Then the
  // process has to end without the destructor, which waits for ever.
  virtual bool close(Millis timeout) = 0;
};

std::unique_ptr<Pool> make_pool(const PoolSpec& spec, PoolSetup setup);

}  // namespace millrace::worker
