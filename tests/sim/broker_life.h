// What a crash of the broker takes away.
#pragma once

#include <unordered_map>

#include "tests/sim/broker.h"
#include "tests/sim/faulty_journal.h"
#include "tests/sim/queue_shares.h"

namespace millrace::sim {

struct Broker::Life {
  Life(Broker& broker, uint64_t seed)
      : loop(broker.settings_of_core(), seed, broker.loop_options(), broker, broker, broker) {}

  server::Loop loop;
  core::Core& core = loop.core();
  std::unique_ptr<SimJournal> journal;
  std::optional<FaultyJournal> faulty_journal;
  Mono round_time{};  // what the loop's clock says; it starts with each round
  bool serving = false;
  bool stopping = false;
  bool disk_full = false;
  std::deque<Arrived> frontend, backend;      // frames
  std::unordered_map<uint64_t, size_t> held;  // bytes, by route

  // The shell's own.
  std::unordered_map<SessionId, Mono> last_received;
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
  // The mark has rejected, and the level was not below nine tenths of it since.
  bool queued_shut = false, memory_shut = false;
  QueueShares shares;
  uint64_t free_at_round = 0;  // bytes of the disk, when it began
  Nanos started_at = 0;
  Now frozen{};
};

}  // namespace millrace::sim
