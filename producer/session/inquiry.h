// Asks for the states of jobs, one QUERY at a time, and matches the STATES to what was asked.
// Limits:  kMaxRangesPerMessage ranges and kJobsPerQuery jobs a QUERY, so that an answer in which
//          every job has a range of its own stays about 1 MB
// Threads: one thread
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "common/protocol/messages.h"

namespace millrace::producer {

class Inquiry {
 public:
  using Range = protocol::JobRange;
  using Visit = std::function<void(Range, protocol::JobState)>;
  static constexpr uint64_t kJobsPerQuery = 65536;

  void ask(Range jobs);
  // The next QUERY, unless one is on its way.
  std::optional<protocol::Query> next();
  // Ranges that were not asked for are skipped.
  void answered(const protocol::States& states, const Visit& visit);
  // The connection was lost: what was on its way is asked again.
  void restart();
  void clear() { asked_.clear(), waiting_.clear(); }
  bool on_its_way() const { return !asked_.empty(); }
  bool done() const { return asked_.empty() && waiting_.empty(); }

 private:
  std::deque<Range> asked_;    // on its way, in the order of the QUERY
  std::deque<Range> waiting_;  // not asked yet
};

}  // namespace millrace::producer
