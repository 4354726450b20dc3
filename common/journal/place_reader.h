// Reads committed batches back, never without their checksum, and keeps the segments it has read
// from lately open.
// Shape:   a place → the body of the batch that it lies in, and those of the batches behind it up to
//          `until`, as far as kReadAhead bytes hold them whole. Where the batches of a segment begin
//          is learnt from their headers, one after the other, as far as they are asked for.
// Limits:  kOpenSegments at a time, so that a long backlog does not use up the process's files;
//          4 bytes a batch in each
// Errors:  65 the batch is not what was written: the place, and how to go on; 74 I/O; 75 a shortage of
//          descriptors or memory, so that the same read may succeed later. Of a batch behind the one
//          that was asked for: it is left out.
// Threads: read() one; forget() any
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "common/journal/files.h"
#include "common/journal/journal.h"

namespace millrace::journal {

class PlaceReader {
 public:
  explicit PlaceReader(Directory& directory) : directory_(directory) {}

  static constexpr uint64_t kReadAhead = 4 << 20;

  Result<Body> read(Place place, size_t size, uint64_t until = 0);
  // The segment is retired; its file may become another one's.
  void forget(SegmentId segment);

 private:
  static constexpr size_t kOpenSegments = 32;
  struct Segment {
    SegmentId id;
    std::unique_ptr<File> file;
    std::vector<uint32_t> batches = {};  // where each begins
    uint64_t end = kBlock;               // where the next one does
    BatchSeq first = {};                 // sequence of the first one
  };

  Result<std::shared_ptr<Segment>> segment_of(SegmentId id);
  Result<void> find(Segment& segment, uint64_t offset);
  Result<Body> load(Segment& segment, size_t index, uint64_t until = 0);
  size_t whole_batches(Segment& segment, size_t index, std::string_view bytes, uint64_t until);
  Result<void> read_bytes(const Segment& segment, uint64_t offset, size_t size, char* out);
  Error failed(SegmentId segment, std::string_view what, std::error_code error) const;
  Error damaged(SegmentId segment, uint64_t offset) const;

  Directory& directory_;
  std::mutex mutex_;                            // for the list, not for what is in it
  std::vector<std::shared_ptr<Segment>> open_;  // the last used at the end
};

}  // namespace millrace::journal
