// What a executor of the worker (a pool and its brokers) has done and is doing, for whoever asks.
// Shape:   the runner posts and counts; read() takes a copy
// Units:   milliseconds in the percentiles
// Threads: internally locked
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/metrics/histogram.h"
#include "worker/pool/pool.h"
#include "worker/run/connection.h"
#include "worker/session/throttle.h"

namespace millrace::worker {

struct Percentiles {
  uint64_t count = 0;
  double p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};

// The executor's line to one broker.
struct BrokerStatus {
  std::string address;
  bool connected = false;
  uint64_t prefetch = 0, held = 0, unconfirmed = 0, confirmed = 0;  // as the executor's
};

struct ExecutorStatus {
  std::string name;
  std::string pool;
  std::vector<std::string> queues;
  PoolStats threads;

  bool connected = false;  // to one broker at least
  bool draining = false;
  uint64_t prefetch = 0;     // jobs that it is willing to hold
  uint64_t held = 0;         // jobs that it answers for
  uint64_t unconfirmed = 0;  // of these, ended, and not yet on the broker's disk
  uint64_t confirmed = 0;    // since the start, as the rest
  uint64_t done = 0;
  uint64_t failed = 0;
  uint64_t released = 0;  // given back unstarted, for lack of something on this host
  // While it takes few jobs or none.
  struct Throttled {
    std::string_view state;
    std::string why;
    uint64_t limit = 0;  // jobs
    Millis pause{};
  };
  std::optional<Throttled> throttled;
  Percentiles run_ms;
  Percentiles wait_ms;
  std::vector<BrokerStatus> brokers;
};

class StatusBoard {
 public:
  StatusBoard(std::string name, std::string pool, const std::vector<QueueHandler>& queues);

  void post(const std::deque<Connection>& lines, const Throttle& throttle);
  void count(const std::vector<Finished>& ends);
  ExecutorStatus read(PoolStats threads) const;

 private:
  mutable std::mutex lock_;
  ExecutorStatus status_;
  Histogram run_us_;
  Histogram wait_us_;
};

}  // namespace millrace::worker
