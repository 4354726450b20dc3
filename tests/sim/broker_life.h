// What a crash of the broker takes away.
#pragma once

#include <unordered_map>

#include "broker/records/record_codec.h"
#include "tests/sim/broker.h"

namespace millrace::sim {

// So little that what was read back is evicted, and reads wait for each other.
inline constexpr server::ReadBackLimits kReadBack{64 << 10, 8, 4, 16 << 10};

struct Broker::Life {
  Life(core::Settings settings, uint64_t seed, uint64_t memory)
      : core(settings, seed), payloads(memory, kReadBack) {}

  core::Core core;
  core::Output out;
  server::PayloadStore payloads;
  std::unique_ptr<SimJournal> journal;
  bool serving = false;
  bool stopping = false;

  std::deque<Frame> frontend, backend;
  records::Chunk chunk;
  bool opens_segment = true;
  uint64_t segment_opened_by = 0;
  uint64_t appended = 0;
  uint64_t committed = 0;
  std::deque<std::pair<uint64_t, size_t>> uncommitted;
  size_t uncommitted_bytes = 0;
  size_t segment_uncommitted_bytes = 0;
  journal::Place tail;
  std::deque<Held> held;
  std::vector<Held> round;
  bool disk_full = false;

  // The shell's own.
  std::unordered_map<SessionId, Mono> heard;
  Mono next_look{};  // at who is silent
  std::unordered_map<SessionId, Uuid> peers;
  std::unordered_map<SessionId, uint64_t> credit;
  std::optional<records::Checkpoint> older_checkpoint;
  std::vector<SessionId> registered_again;
  struct Bucket {
    uint64_t rate = 0;
    double level = 0;
    Mono seen{};
  };
  std::unordered_map<std::string, Bucket> buckets;
  std::deque<Operation> operations;
  Nanos started_at = 0;
  Now frozen{};
};

}  // namespace millrace::sim
