// From a spool queue's journal to its index: what a start does, and what a look into another folder
// does.
// Shape:   the bodies of batches, in order → index(), last_segment()
// Errors:  65 records that are none, do not follow each other, or are another spool's; the journal
//          puts file and remedy around the sentence
// Threads: one
#pragma once

#include <optional>
#include <string_view>

#include "common/journal/journal.h"
#include "producer/spool/identity.h"
#include "producer/spool/index.h"
#include "producer/spool/records.h"

namespace millrace::producer {

class SpoolReplay {
 public:
  // With the last run, as the file `producer` says: none that wrote here may be younger.
  explicit SpoolReplay(const SpoolIdentity& last) : identity_(last) {}

  // Valid as long as this is.
  journal::Journal::Replay visitor();

  SpoolIndex& index() { return index_; }
  SegmentId last_segment() const { return segment_; }  // that holds a batch; 0: none

 private:
  Result<void> take(const SpoolRecord& record, journal::Place place, size_t size);
  Result<void> check(const SpoolCheckpoint& checkpoint) const;
  Result<void> check_run(uint64_t run) const;

  const SpoolIdentity identity_;
  SpoolIndex index_;
  SegmentId segment_;
};

}  // namespace millrace::producer
