// How often each thing happened in a run: faults are not enough, the rules they meet must be in
// use.
// Shape:   count(group, name) from anywhere → sums over runs → a table in which what never happened
//          stands too, with 0
// Owns:    counters; group and name must live for ever (literals)
// Threads: one
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "broker/records/records.h"
#include "common/protocol/messages.h"

namespace millrace::sim {

class Coverage {
 public:
  void count(std::string_view group, std::string_view name, uint64_t times = 1) {
    counters_[{group, name}] += times;
  }
  void add(const Coverage& other) {
    for (const auto& [key, times] : other.counters_) counters_[key] += times;
  }
  // With everything that expected() names.
  std::string table() const;
  std::string json() const;
  // The first thing that should have happened and did not; empty: none.
  std::string missing() const;

 private:
  using Key = std::pair<std::string_view, std::string_view>;
  std::map<Key, uint64_t> with_zeros() const;
  std::map<Key, uint64_t> counters_;
};

// The first word of its description.
std::string_view kind_of(const protocol::FromClient& message);
std::string_view kind_of(const protocol::FromBroker& message);
std::string_view kind_of(const records::Record& record);
// The record, with its reason or kind where it has one; and for each job's end the end.
void count_record(Coverage& coverage, const records::Record& record);

}  // namespace millrace::sim
