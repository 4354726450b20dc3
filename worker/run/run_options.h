// What `millrace-worker run` can be told, and how its own forms are read.
// Errors:  usage, naming what there is
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/base/units.h"
#include "common/cli/command.h"
#include "common/net/curve.h"
#include "common/os/memory_reserve.h"
#include "worker/pool/pool_spec.h"
#include "worker/process/spawner.h"

namespace millrace::worker {

inline constexpr int kBackendPort = 5571;
inline constexpr size_t kMaxBrokers = 64;

struct QueueSpec {
  std::string queue;    // or a prefix, as "tenant.*"
  std::string handler;  // see make_handler()
  size_t share = 0;     // threads of its own; 0: those of --pool

  // Why the two can't be in one worker.
  std::optional<std::string> conflict_with(const QueueSpec& other) const;
};

// Of the commands of one queue, or of all that have none of their own.
template <typename Value>
struct QueueLimit {
  std::string queue;  // as in --queue; or empty
  Value value{};
};

// How commands are run and ended.
struct CommandOptions {
  Millis kill_after{5000};
  std::vector<QueueLimit<int64_t>> memory;  // bytes
  std::vector<QueueLimit<Millis>> cpu;

  CommandLimits limits_of(std::string_view queue) const;
};

struct RunOptions {
  std::vector<Endpoint> brokers;
  CurveFlags curve;
  std::vector<std::optional<CurveClient>> keys;  // of each broker: read_keys()
  std::vector<QueueSpec> queues;
  PoolSpec pool;
  std::optional<uint64_t> prefetch;  // nothing: auto
  int64_t breaker = 20;              // failures in a row that slow the worker; 0: none
  Millis drain_timeout{};
  CommandOptions commands;
  std::optional<Millis> connect_timeout;  // nothing: for ever
  std::optional<Millis> run_timeout;      // of a job; nothing: as long as it takes
  std::optional<Millis> idle_exit;        // nothing: never
  std::optional<Endpoint> http;           // of the status; nothing: none
  std::string name;
  std::vector<std::string> labels;
  MemoryReserve* memory = nullptr;  // of this process; or nothing is known of its memory
};

// NAME=HANDLER[@N]; NAME may be a prefix, as tenant.*
Result<QueueSpec> parse_queue(std::string_view text);
// What a worker may be labelled with: the letters of a queue's name.
Result<std::string> parse_label(std::string_view text);
// auto or a number of jobs.
Result<std::optional<uint64_t>> parse_prefetch(std::string_view text);

// SIZE or NAME=SIZE, DURATION or NAME=DURATION.
Result<QueueLimit<int64_t>> parse_memory_limit(std::string_view text);
Result<QueueLimit<Millis>> parse_cpu_limit(std::string_view text);

// host:pid
std::string default_name();
// What no single flag shows: no broker twice, no queue twice or in two pools, not too many, status
// for loopback only.
Result<void> check(const RunOptions& options);
// Fills `keys` from the files that `curve` names.
Result<void> read_keys(RunOptions& options);

}  // namespace millrace::worker
