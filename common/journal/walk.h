// Reads a journal's segments in order, and reports what is in them and what is damaged or missing
// (docs/JOURNAL.md, section 4). Both the start of a broker and the offline tools use it.
// Shape:   segments → bodies of batches with their places, findings. After damage the walk continues
//          at the next batch that is valid and belongs there, unless the visitor ends it.
//          1. Nothing is changed.  2. Only bodies with a valid checksum are shown.
// Errors:  74 a file that can't be opened; the visitor's own. Blocks that can't be read are findings
// Threads: one
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/journal/files.h"
#include "common/journal/segment_reader.h"

namespace millrace::journal {

// No segment is larger: it begins to end at 64 MiB, and a round of the loop brings less than the
// rest.
inline constexpr uint64_t kMaxSegmentBytes = uint64_t{1} << 30;

struct SegmentInfo {
  SegmentId id;
  uint64_t bytes = 0;  // of the file
};

// A file that held a segment once, and may hold one again.
struct Spare {
  std::string name;
  uint64_t bytes = 0;
};

// The names of docs/JOURNAL.md, section 1; segments in order.
struct Listing {
  std::vector<SegmentInfo> segments;
  std::vector<Spare> spares;
  std::vector<std::string> unfinished;  // *.tmp

  uint64_t segment_bytes() const;
};
Result<Listing> list(Directory& directory);

struct Finding {
  enum class Kind {
    torn_tail,        // a commit that never finished: no harm
    damaged,          // confirmed bytes are not what they were, or not the right ones
    missing,          // a whole segment
    unreadable,       // the disk does not give the bytes
    foreign_version,  // written by another release
  };
  Kind kind;
  SegmentId segment;
  uint64_t offset = 0;
  std::string what;           // with path and byte; a sentence without its full stop
  uint64_t lost_bytes = 0;    // up to where the walk continues
  uint64_t lost_batches = 0;  // as far as the sequences tell
};
const char* name_of(Finding::Kind kind);

// An Error from any of these ends the walk, but for a 65 of on_body().
class WalkVisitor {
 public:
  virtual ~WalkVisitor() = default;
  // `header` is null where it is damaged.
  virtual Result<void> on_segment(const SegmentInfo&, const SegmentHeader*) { return {}; }
  // Before the batch's body; also a seal, whose body is empty.
  virtual Result<void> on_batch(SegmentId, const SegmentReader::Batch&) { return {}; }
  // What a batch holds. 65: it is not what it should be, a finding at `*at`, which is the body's
  // first byte unless the callee has moved it.
  virtual Result<void> on_body(std::string_view body, Place* at) = 0;
  virtual Result<void> on_finding(const Finding& finding) = 0;
  // The reader stands at the segment's end; `bytes` are all of the file.
  virtual void on_segment_end(SegmentId, const SegmentReader&, std::string_view) {}
};

Result<void> walk(Directory& directory, const std::vector<SegmentInfo>& segments,
                  WalkVisitor& visitor);

}  // namespace millrace::journal
