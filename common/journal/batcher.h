// Chunks that wait to be written, cut into batches; and what has become of them. The rules of group
// commit without its thread, so that the journal and the simulated one share them.
// Shape:   append(), retire() → take_batch() → the caller writes it → committed() → take_committed()
//          1. A batch holds chunks in the order of their tickets, ends before one that opens a segment,
//             and before it would pass kMaxBatch; it has one chunk at least.
//          2. A segment may be retired once all that was appended before retire() is committed.
// Units:   bytes
// Limits:  none: the owner of the journal bounds what it appends
// Owns:    the chunks, until they are taken
// Threads: one, or locked by its owner
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "common/journal/chunk.h"
#include "common/journal/journal.h"
#include "common/journal/segment_writer.h"

namespace millrace::journal {

struct PendingChunk {
  uint64_t ticket = 0;
  Chunk chunk;
  bool new_segment = false;
};

// What the writer needs of them; it points into the chunks.
Batch batch_of(std::span<const PendingChunk> chunks);

class Batcher {
 public:
  // More makes commits and reading back slower, not the disk faster.
  static constexpr uint64_t kMaxBatch = 4 << 20;

  uint64_t append(Chunk chunk, bool new_segment);  // returns its ticket: 1, 2, …
  uint64_t skip() { return ++last_ticket_; }       // a ticket that never commits
  void retire(SegmentId last);

  bool empty() const { return pending_.empty(); }
  std::vector<PendingChunk> take_batch();  // empty if nothing waits
  // The batch was written, and its first chunk begins at `place`.
  void committed(std::span<const PendingChunk> chunks, Place place);
  std::vector<Committed> take_committed() { return std::exchange(committed_, {}); }

  // Up to which segment all may go now; the same until it is retired().
  std::optional<SegmentId> retirable();
  bool is_retirement_due() const;
  void retired() { retire_to_.reset(); }

  void drop_pending() { pending_.clear(); }

 private:
  struct Retirement {
    uint64_t after = 0;  // the last ticket that must be committed before
    SegmentId last;
  };

  std::deque<PendingChunk> pending_;
  std::deque<Retirement> retirements_;
  std::optional<SegmentId> retire_to_;
  std::vector<Committed> committed_;
  uint64_t last_ticket_ = 0;
  uint64_t committed_ticket_ = 0;
};

}  // namespace millrace::journal
