// The ready jobs of one queue, and which of them come next.
// Shape:   by priority, highest first, and within it in the order of acceptance, or fair between
//          producers, each in turn. One job in kOldestTurn goes to the priority whose head has waited
//          longest, so that none starves for ever.
//          next() only looks; what was really leased is taken out with take(), and moves the turns:
//          so they are a function of the records.
// Limits:  runs of ids, as in IdSet; the bytes are added to a sum over all queues
// Threads: one
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "broker/core/state/id_set.h"
#include "broker/core/state/producers.h"
#include "broker/records/records.h"

namespace millrace::core {

inline constexpr uint64_t kOldestTurn = 8;

// What decides a job's place among the ready ones.
struct Rank {
  uint8_t priority = protocol::kDefaultPriority;
  ProducerIndex producer = 0;
  bool operator==(const Rank&) const = default;
};

class ReadyList {
 public:
  explicit ReadyList(uint64_t* memory_bytes) : memory_bytes_(memory_bytes) {}

  void insert(JobRange jobs, Rank rank);
  void erase(JobRange jobs, Rank rank);  // they left otherwise: cancelled, expired, done late
  void take(JobRange jobs, Rank rank);   // they were leased
  std::vector<JobRange> next(uint64_t most) const;

  bool contains(JobId job, Rank rank) const;
  uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::vector<JobRange> runs() const;

  // Only while empty: the caller takes the jobs out before, and puts them back.
  void set_order(records::Order order);
  records::Order order() const { return order_; }

 private:
  struct Level {
    using Subqueues = std::map<ProducerIndex, IdSet>;
    Subqueues subqueues;  // one subqueue, 0, in the order of acceptance
    uint64_t size = 0;
    ProducerIndex last = 0;  // the subqueue that was served last
  };
  using Levels = std::map<uint8_t, Level, std::greater<>>;
  static constexpr uint64_t kLevelBytes = kTreeNodeBytes<Levels::value_type>;
  static constexpr uint64_t kSubqueueBytes = kTreeNodeBytes<Level::Subqueues::value_type>;

  ProducerIndex subqueue_of(Rank rank) const {
    return order_ == records::Order::fair ? rank.producer : 0;
  }
  static void next_of(const Level& level, uint64_t most, std::vector<JobRange>* runs);

  records::Order order_ = records::Order::fifo;
  Levels levels_;
  uint64_t size_ = 0;
  uint64_t turn_ = 0;  // jobs leased since it was empty: an empty list remembers nothing
  uint64_t* memory_bytes_;
};

}  // namespace millrace::core
