// What an operator sets of the core, with the defaults.
// Units:   ms, bytes, jobs; 0 where it says so
// Threads: immutable
#pragma once

#include <string_view>

#include "broker/core/state/state.h"
#include "common/protocol/messages.h"

namespace millrace::core {

struct Settings {
  Millis heartbeat{1000};
  uint64_t liveness = 3;
  Millis lease{30000};
  uint8_t max_attempts = 5;
  uint8_t crash_limit = 5;
  Millis backoff_min{500};
  Millis backoff_max{300000};
  uint64_t max_job_size = protocol::kDefaultMaxJobSize;
  uint64_t max_queued = 10'000'000;         // jobs that have not ended
  uint64_t max_memory = uint64_t{4} << 30;  // bytes of bookkeeping about them
  uint64_t max_queued_per_producer = 0;     // 0: no limit
  uint64_t submit_rate_per_producer = 0;    // jobs a second; 0: no limit
  uint64_t max_queues = 1'000'000;
  Millis empty_queue_ttl{60000};  // how long a queue without anything in it stays
  RetentionLimits retention;
  uint64_t history = 100'000;  // runs of ended jobs of which it is known how they ended
  uint64_t window_jobs = 16384;
  uint64_t window_bytes = 32 << 20;
  uint64_t bulk_slice = 4096;  // jobs of a pending operation that a slice ends or looks at
  std::string_view durability = "confirmed";
};

}  // namespace millrace::core
