// Walks the valid batches of one segment, and tells a torn tail from damage
// (docs/JOURNAL.md, sections 3 and 4).
// Shape:   the bytes of a segment's file → batches in order, then why they end
// Owns:    nothing: the bytes must outlive it
// Threads: one
#pragma once

#include <optional>
#include <string_view>

#include "common/journal/format.h"

namespace millrace::journal {

class SegmentReader {
 public:
  struct Batch {
    BatchHeader header;
    std::string_view body;
    uint64_t body_offset = 0;  // in the file
  };

  SegmentReader(std::string_view bytes, const SegmentHeader& header)
      : bytes_(bytes), segment_(header.segment), sequence_(header.first), chain_(header.chain) {}

  // The next valid batch; nothing at the first block that holds none, and behind a seal.
  std::optional<Batch> next();

  bool sealed() const { return sealed_; }
  uint64_t end() const { return end_; }  // behind the last valid batch
  BatchSeq next_sequence() const { return sequence_; }
  uint64_t chain() const { return chain_; }
  uint64_t incarnation() const { return incarnation_; }  // of the last valid batch

  // After next() has ended: whether a batch was begun at end().
  bool torn() const;
  // After next() has ended: a batch of this segment behind end() which was written only after all
  // before it had been synced. If there is one, what stands at end() is damage.
  std::optional<uint64_t> proof_of_damage() const;
  // After next() has ended: the next place behind end() where a batch of this segment stands that
  // is valid in itself and younger than those before. Of a damaged batch whose header is whole, the
  // body is passed over: a payload may look like a batch.
  std::optional<uint64_t> next_valid() const;
  // Goes on there.
  void resume(uint64_t offset);

 private:
  std::string_view bytes_;
  SegmentId segment_;
  BatchSeq sequence_;
  uint64_t chain_;
  uint64_t incarnation_ = 0;
  uint64_t end_ = kBlock;
  bool sealed_ = false;
};

}  // namespace millrace::journal
