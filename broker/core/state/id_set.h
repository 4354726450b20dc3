// A set of job ids as runs, and why: jobs are accepted, leased and done in nearly the order of
// their ids, so millions of them are a handful of runs.
// Shape:   ordered, disjoint, never adjacent runs [first, first + count)
// Limits:  a map node (64 bytes) a run; O(log runs) an operation
// Threads: one
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "broker/core/state/memory.h"
#include "common/base/ids.h"
#include "common/protocol/messages.h"

namespace millrace::core {

using protocol::JobRange;

class IdSet {
 public:
  using Runs = std::map<uint64_t, uint64_t>;  // first → end, exclusive

  void insert(JobId id) { insert({id, 1}); }
  void insert(JobRange range);  // may overlap what is there
  void erase(JobRange range);   // ids that are not there are passed over
  bool contains(JobId id) const;
  std::vector<JobRange> missing(JobRange range) const;  // the parts of it that are not there

  // The run that holds `id`, from there on, or else the next one.
  std::optional<JobRange> at_or_after(JobId id) const;
  // Up to `most` of the lowest ids.
  std::vector<JobRange> lowest(uint64_t most) const;

  uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint64_t run_count() const { return runs_.size(); }
  uint64_t memory_bytes() const { return runs_.size() * kTreeNodeBytes<Runs::value_type>; }
  std::vector<JobRange> runs() const;

  const Runs& ends_by_first() const { return runs_; }

 private:
  Runs runs_;
  uint64_t size_ = 0;
};

}  // namespace millrace::core
