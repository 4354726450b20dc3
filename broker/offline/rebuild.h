// Writes a history into a directory as a journal that a broker takes: the second half of a repair.
// Shape:   put() each record in order, with the state before it; finish() seals and syncs
//          1. Each segment begins with a Checkpoint: the history's own first one, later the state's.
// Limits:  as the journal's
// Errors:  74 I/O, also when the disk is full
// Owns:    the directory
// Threads: one
#pragma once

#include <memory>
#include <optional>

#include "broker/core/state/state.h"
#include "broker/records/record_codec.h"
#include "common/journal/segment_writer.h"

namespace millrace::offline {

class Rebuild {
 public:
  Rebuild(std::unique_ptr<journal::Directory> directory, BrokerId broker,
          uint64_t segment_bytes = journal::kSegmentBytes);

  Result<void> put(const records::Record& record, const core::State& before);
  Result<void> finish();
  bool is_empty() const { return records_ == 0; }

 private:
  Result<void> flush();

  std::unique_ptr<journal::Directory> directory_;
  const uint64_t segment_bytes_;
  journal::SegmentWriter writer_;
  records::Chunk chunk_;
  bool opens_segment_ = true;
  uint64_t in_segment_ = 0;  // bytes
  uint64_t records_ = 0;
};

}  // namespace millrace::offline
