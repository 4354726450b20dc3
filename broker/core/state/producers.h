// What the broker remembers of producers, so that a resend never makes a second job.
// Shape:   for each producer: the floor below which it resends nothing, and above it the runs of
//          sequences that became jobs; a well-behaved producer has one or two runs. Beside it the
//          number of its unfinished jobs; those of producers that were forgotten are counted together,
//          and those of producers that spoke under one key in this process as well
// Limits:  kMaxProducers; the one that has been silent for longest is forgotten first.
//          kMaxRunsOfProducer, and kMaxSequenceRuns of all: then only who has less than an equal share
//          gets more, so that there are never above twice as many (has_room_for())
// Threads: one
#pragma once

#include <list>
#include <map>
#include <unordered_map>
#include <vector>

#include "broker/core/state/account.h"
#include "broker/records/records.h"

namespace millrace::core {

inline constexpr size_t kMaxProducers = 65536;
// A producer that raises its floor has as many runs as submissions under way, at most: its window.
inline constexpr size_t kMaxRunsOfProducer = 16384;
inline constexpr size_t kMaxSequenceRuns = 262144;

// A producer's number within this process: 4 bytes in each job instead of 16. Never reused.
using ProducerIndex = uint32_t;

class Producers {
 public:
  Producers() = default;
  Producers(const Producers&) = delete;  // it points into itself
  Producers& operator=(const Producers&) = delete;

  struct Known {
    uint64_t count = 0;  // how many sequences, from the asked one, share the answer
    bool known = false;
    JobId first_job;  // if known
  };

  bool knows(const Uuid& id) const { return entries_.contains(id); }
  ProducerIndex index_of(const Uuid& id) const;  // of a known one
  const Uuid* id_of(ProducerIndex index) const;  // null if it was forgotten
  Seq floor_of(const Uuid& id) const;
  Known look_up(const Uuid& id, Seq first, uint64_t count) const;
  // Whether sequences from `first` may become jobs from `job`. The lowest one that is not answered
  // always may: with it the producer can raise its floor.
  bool has_room_for(const Uuid& id, Seq floor, Seq first, JobId job) const;

  void accept(const records::Accepted& record);
  void match(const records::Matched& record);
  void forget(const Uuid& id);
  void restore(const records::ProducerState& state);  // whoever was seen first comes first
  // Whom to forget before one more is added; null while there is room, or none but `connected`.
  template <typename Connected>
  const Uuid* to_forget(Connected&& connected) const {
    if (entries_.size() < kMaxProducers) return nullptr;
    for (const Uuid& id : by_last_seen_)
      if (!connected(id)) return &id;
    return nullptr;
  }

  // Unfinished jobs, by who submitted them.
  void add_live(ProducerIndex index, uint64_t jobs);
  void remove_live(ProducerIndex index);
  uint64_t live_of(const Uuid& id) const;
  // The jobs of this producer, if it is known, count for the key from here on. Not durable.
  void set_key(const Uuid& id, KeyId key);
  uint64_t live_of(KeyId key) const;
  uint64_t live_of_forgotten() const { return forgotten_.live; }
  struct Share {
    Uuid producer;
    uint64_t live = 0;
  };
  std::vector<Share> largest(size_t most) const;  // with unfinished jobs; the largest first

  size_t size() const { return entries_.size(); }
  uint64_t run_count() const { return runs_; }      // of sequences, of all producers
  uint64_t memory_bytes() const;                    // of producers
  uint64_t run_memory_bytes() const;                // of their sequences
  std::vector<records::ProducerState> all() const;  // ordered by id

 private:
  struct Entry {
    ProducerIndex index = 0;
    Seq floor{1};
    WallMs seen{};
    std::list<Uuid>::iterator place;            // in by_last_seen_
    std::map<uint64_t, records::SeqRun> known;  // by first sequence
  };
  struct Holder {
    Uuid id;
    uint64_t live = 0;
    KeyId key;
    uint64_t* live_of_key = nullptr;
  };
  Entry& entry_of(const Uuid& id);
  Holder& holder_of(ProducerIndex index);
  void remove_departed(ProducerIndex index);
  void learn(const Uuid& id, Seq floor, WallMs time, records::SeqRun run);

  std::unordered_map<Uuid, Entry> entries_;
  std::list<Uuid> by_last_seen_;  // the longest silent one first
  uint64_t runs_ = 0;
  std::unordered_map<ProducerIndex, Holder> holders_;
  ProducerIndex next_index_ = 1;
  Holder forgotten_;                                 // of all who were forgotten
  std::unordered_map<KeyId, uint64_t> live_of_key_;  // of each that has sent something
  // Of those who were forgotten, as BYE has it, while they have unfinished jobs that count for a
  // key.
  std::unordered_map<ProducerIndex, Holder> departed_;
  // The holder that was asked for last: jobs end in nearly the order in which they came.
  ProducerIndex recent_index_ = 0;  // 0: none
  Holder* recent_ = nullptr;
};

}  // namespace millrace::core
