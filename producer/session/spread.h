// Which of several brokers takes a submission (docs/PRODUCER.md, section 3).
// Shape:   brokers as they are now → the index of one, or nothing: the submission has to wait
//          1. With a key: the ready one with the highest weight, whatever its load.
//          2. Without: the ready one with the least load. It keeps its turn for kRun submissions, or
//          until new_turn(), so that what comes together shares a message.
// Threads: one thread
// Source:  rendezvous hashing (Thaler and Ravishankar): a broker that goes moves its own keys only
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace millrace::producer {

class Spread {
 public:
  static constexpr uint64_t kRun = 1024;

  struct Broker {
    uint64_t id = 0;  // the same for all producers
    bool up = false;  // a submission may be bound to it
    bool room = false;
    uint64_t load = 0;  // what it has not answered
  };

  // A key whose broker is up and has no room waits for it.
  std::optional<size_t> pick(const std::vector<Broker>& brokers, std::string_view key);
  // The submission was given to it.
  void took(size_t index);
  void new_turn() { left_ = 0; }

  static uint64_t weight(std::string_view key, uint64_t broker_id);

 private:
  std::optional<size_t> home(const std::vector<Broker>& brokers, std::string_view key) const;
  std::optional<size_t> idlest(const std::vector<Broker>& brokers) const;

  size_t last_ = 0;
  uint64_t left_ = 0;  // submissions of the last one's turn
};

}  // namespace millrace::producer
