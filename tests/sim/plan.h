// What one seed means: how many processes, which settings, what the producers want done, and a list
// of faults with their times. Everything that a shrinking run may take away is a field here.
// Shape:   seed, overrides → Plan; the plan and the seed decide the run
// Units:   Nanos of true time
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/core.h"
#include "tests/sim/world.h"

namespace millrace::sim {

enum class FaultKind : uint8_t {
  broker_kill,   // kill -9: what was written stays, synced or not
  broker_power,  // power cut: any subset of unsynced sectors is lost
  broker_stop,   // a clean stop
  worker_kill,
  worker_power,  // its connection stays half-open
  worker_drain,
  producer_kill,     // comes back as a new producer
  producer_restart,  // comes back with what was unanswered
  producer_power,
  disconnect,  // the TCP connection breaks, what is in flight is lost
  partition,   // nothing passes in one direction or both, then all of it late, or a reset
  slow_network,
  pause,  // a process stands still
  wall_jump,
  disk_full,
  sync_error,  // EIO: the broker ends
  write_error,
  slow_disk,
  power_at_sync,  // a power cut between two operations of a commit
  duplicate,      // some frames arrive twice
  reorder,        // what a connection carries arrives after what its successor carries
  refuse,         // the broker's socket takes no frames for a peer: its buffer is full
};
inline constexpr size_t kFaultKinds = size_t(FaultKind::refuse) + 1;
std::string_view name_of(FaultKind kind);
std::optional<FaultKind> parse_fault(std::string_view name);

struct Fault {
  FaultKind kind{};
  Nanos at = 0;
  Nanos lasts = 0;
  uint64_t target = 0;  // which process, modulo their number
  uint64_t amount = 0;  // chance for the details
  size_t number = 0;    // in the list before anything was taken out
};

struct Plan {
  uint64_t seed = 0;
  Nanos chaos = 0;  // submissions and faults go on for so long; then all must drain
  size_t producers = 0, workers = 0;
  std::vector<Fault> faults;

  core::Settings settings;
  uint64_t segment_bytes = 0;
  uint64_t payload_memory = 0;
  size_t backlog_bytes = 0;     // of the loop
  uint64_t work_per_round = 0;  // likewise
  Nanos frame_time = 0;         // how long the loop takes for a frame, as it measures it
  uint64_t disk_bytes = 0;

  std::vector<std::string> queues;
  double jobs_per_second = 0;  // of all producers
  uint64_t fail_per_mille = 0, poison_per_mille = 0;
  uint64_t delay_per_mille = 0, ttl_per_mille = 0, priority_per_mille = 0, key_per_mille = 0;
  uint64_t cancel_per_mille = 0;  // by a producer, at each burst
  Nanos operation_each = 0;       // what people do to queues and jobs; 0: nothing
  Nanos typical_run = 0;
  Nanos latency = 0;  // of the network, one way
  Nanos sync_time = 0;
};

// What is not set comes from the seed.
struct Overrides {
  std::optional<size_t> producers, workers;
  std::optional<Nanos> chaos;
  std::optional<double> rate_factor;        // of jobs_per_second
  std::optional<std::vector<size_t>> only;  // numbers of faults
  std::vector<FaultKind> without;
  bool plain = false;         // no delays, TTLs, priorities, keys, operations
  std::string flags() const;  // as the command line takes them
};

Plan make_plan(uint64_t seed, const Overrides& overrides);
std::string describe(const Plan& plan);

}  // namespace millrace::sim
