// From a directory to the records in it, and to the place where writing continues
// (docs/JOURNAL.md, section 4).
// Shape:   scan() reads and replays and changes nothing; finish() then seals the tail and removes
//          what an interrupted start has left
// Errors:  65 damage, a missing or foreign segment, another format version; 74 I/O; the visitor's own
// Threads: one
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/journal/walk.h"

namespace millrace::journal {

// The last segment, if nothing sealed it.
struct Tail {
  std::string bytes;  // its header block and its valid batches
  uint64_t incarnation = 0;
};

// The last segment's seal, if it has one. It may stand in the page cache only: the broker may have
// been killed before its sync, or the sync have failed, after which no other writes that page.
struct Seal {
  uint64_t offset = 0;
  std::string block;
};

struct Scan {
  Recovered recovered;
  std::vector<SegmentInfo> segments;  // in order
  std::vector<Spare> spares;
  std::vector<std::string> unfinished;  // *.tmp
  std::optional<Tail> tail;
  std::optional<Seal> seal;
  Position next;
};

Result<Scan> scan(Directory& directory, const Journal::Replay& replay);
// Without replaying anything, if the journal is whole at its end, that is `end`, and its segments
// take `least` bytes or more.
std::optional<Scan> scan_end(Directory& directory, const Position& end,
                             uint64_t least = kWorthSnapshot);
Result<void> finish(Directory& directory, Scan* scan);

}  // namespace millrace::journal
