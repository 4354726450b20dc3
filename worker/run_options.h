// What `millrace-worker run` can be told, and how its own forms are read.
// Errors:  usage, naming what there is
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/time.h"
#include "common/units.h"

namespace millrace::worker {

inline constexpr int kBackendPort = 5571;
inline constexpr size_t kMaxThreads = 1024;

struct QueueSpec {
  std::string queue;
  std::string handler;  // see make_handler()
};

struct RunOptions {
  std::vector<Endpoint> brokers;
  std::vector<QueueSpec> queues;
  size_t threads = 0;                // of the pool
  std::optional<uint64_t> prefetch;  // nothing: auto
  Millis drain_timeout{};
  std::optional<Millis> connect_timeout;  // nothing: for ever
  std::string name;
};

// NAME=HANDLER
Result<QueueSpec> parse_queue(std::string_view text);
// fixed:N, fixed (a thread for each core, at least 4), single; the number of threads.
Result<size_t> parse_pool(std::string_view text);
// auto or a number of jobs.
Result<std::optional<uint64_t>> parse_prefetch(std::string_view text);

// host:pid
std::string default_name();
// What no single flag shows: one broker, no queue twice, not too many.
Result<void> check(const RunOptions& options);

}  // namespace millrace::worker
