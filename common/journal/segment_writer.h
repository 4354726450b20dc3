// Writes batches into segments, and manages the directory's files (JOURNAL.md, sections 2, 3, 6).
// Shape:   a batch → a place;  a call is one commit: when write() has returned `done` under
//          FsyncMode::always, the batch is on disk
//          1. a segment's name appears only over a synced header.  2. a segment is sealed and synced
//          before the next one's name appears.  3. no write touches a block that holds a batch.
// Errors:  Outcome::shortage: no space, descriptor or memory just now; nothing counts as written,
//          call again with the same. An Error: the state of the disk is unknown, do not call again
// Owns:    the open segment; the directory must outlive it
// Threads: one
// Source:  docs/decisions/0001-journal-preallocation.md
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/journal/recovery.h"

namespace millrace::journal {

struct Batch {
  std::vector<std::string_view> body;
  uint64_t bytes = 0;  // of the body
  uint32_t records = 0;
};

class SegmentWriter {
 public:
  enum class Outcome { done, shortage };

  // Goes on where the scan ended; finish() must have been called for it.
  SegmentWriter(Directory& directory, Scan scan, BrokerId broker, uint64_t incarnation,
                FsyncMode fsync, uint64_t segment_bytes);

  // With new_segment, or without an open one, the batch becomes the first of a new segment.
  Result<Outcome> write(const Batch& batch, bool new_segment, WallMs now);
  Place last_body() const { return last_body_; }  // where the body of the last batch begins

  Result<void> sync();
  bool unsynced() const { return unsynced_; }
  BatchSeq durable() const { return durable_; }
  const Position& next() const { return next_; }

  // Ends the open segment; nothing follows in it.
  Result<Outcome> seal();

  // The cause of the last Outcome::shortage.
  std::error_code shortage() const { return shortage_; }

  enum class Retired { spare, deleted };

  // Removes the oldest segment if it is not above `last`, and says which it was; its file is
  // deleted, or may become a spare. None, too, where a shortage prevents it: the next retirement
  // includes it.
  Result<std::optional<SegmentId>> retire_one(SegmentId last, Retired how = Retired::spare);
  // Gives the spares' space back to the disk.
  Result<void> drop_spares();

  uint64_t bytes_written() const { return bytes_written_; }
  uint64_t segments() const { return segments_.size(); }
  uint64_t bytes_on_disk() const;
  uint64_t room() const { return file_ ? segments_.back().bytes - offset_ : 0; }

 private:
  Result<Outcome> open_segment(WallMs now);
  Result<Outcome> put_header(File& file, WallMs now);
  Result<Outcome> put_batch(const Batch& batch, uint32_t flags);
  uint64_t zeros_behind(uint64_t begin, uint64_t end) const;
  Result<Outcome> judge(std::error_code error, std::string_view name, std::string_view what);
  Error broken(std::string_view name, std::string_view what, std::error_code error) const;

  Directory& directory_;
  const BrokerId broker_;
  const uint64_t incarnation_;
  const FsyncMode fsync_;
  const uint64_t segment_bytes_;

  std::vector<SegmentInfo> segments_;
  std::vector<Spare> spares_;
  Position next_;

  std::unique_ptr<File> file_;  // the open segment, segments_.back()
  uint64_t offset_ = 0;         // where its next batch goes
  uint64_t written_to_ = 0;     // blocks below have been written once, so their metadata is at rest
  bool unsynced_ = false;

  Place last_body_;
  BatchSeq durable_;
  uint64_t bytes_written_ = 0;
  std::error_code shortage_;
  const std::string zeros_;
  std::vector<std::string_view> parts_;  // kept for its memory
};

}  // namespace millrace::journal
