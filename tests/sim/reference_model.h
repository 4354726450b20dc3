// The durable journal, read as it grows: a second reader that sees only what a power cut would
// leave.
// Shape:   update(), after anything reached the disk → each new durable batch's records go to the
//          oracle, then into a State that began with the first record ever and knows no Checkpoints.
//          A batch that was durable once must stay: a copy of its segment must hold the same.
// Owns:    the state; disk and oracle must outlive it
// Threads: one
#pragma once

#include <vector>

#include "broker/core/state/state.h"
#include "common/journal/format.h"
#include "tests/sim/disk.h"
#include "tests/sim/oracle.h"

namespace millrace::sim {

class ReferenceModel {
 public:
  ReferenceModel(World& world, const Disk& disk, Oracle& oracle, core::RetentionLimits retention)
      : world_(world), disk_(disk), oracle_(oracle), state_(retention) {}

  void update();
  const core::State& state() const { return state_; }
  SegmentId segment() const { return segment_; }
  uint64_t batches() const { return next_.value - 1; }

 private:
  bool read_segment();  // true when it is sealed: the next one follows
  void take(std::string_view body);

  World& world_;
  const Disk& disk_;
  Oracle& oracle_;
  core::State state_;

  SegmentId segment_{1};
  std::vector<uint64_t> checksums_;  // of the batches of the segment that have been read
  BatchSeq next_{1};
  uint64_t chain_ = 0;  // of the segment before

  // Where reading goes on, in which of the files that had this segment's name.
  std::optional<size_t> file_;
  uint64_t offset_ = 0;
  size_t batch_ = 0;  // of the segment
};

}  // namespace millrace::sim
