// What a lane of the worker (a session and its pool) has done and is doing, for whoever asks.
// Shape:   the runner posts and counts; read() takes a copy
// Units:   milliseconds in the percentiles
// Threads: internally locked
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "common/histogram.h"
#include "worker/pool/pool.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

struct Percentiles {
  uint64_t count = 0;
  double p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};

struct LaneStatus {
  std::string name;
  std::string pool;
  std::vector<std::string> queues;
  PoolStats threads;

  bool connected = false;
  bool draining = false;
  uint64_t prefetch = 0;     // jobs that it is willing to hold
  uint64_t held = 0;         // jobs that it answers for
  uint64_t unconfirmed = 0;  // of these, ended, and not yet on the broker's disk
  uint64_t confirmed = 0;    // since the start, as the rest
  uint64_t done = 0;
  uint64_t failed = 0;
  Percentiles run_ms;
  Percentiles wait_ms;
};

class StatusBoard {
 public:
  StatusBoard(std::string name, std::string pool, const std::vector<QueueHandler>& queues);

  void post(const WorkerSession& session);
  void count(const std::vector<Finished>& ends);
  LaneStatus read(PoolStats threads) const;

 private:
  mutable std::mutex lock_;
  LaneStatus status_;
  Histogram run_us_;
  Histogram wait_us_;
};

}  // namespace millrace::worker
