// Reads bytes of committed places, and keeps the segments it has read from lately open.
// Limits:  kOpenFiles at a time, so that a long backlog does not use up the process's files
// Errors:  74 I/O
// Threads: internally locked
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "broker/journal/files.h"
#include "broker/journal/journal.h"

namespace millrace::journal {

class PlaceReader {
 public:
  explicit PlaceReader(Directory& directory) : directory_(directory) {}

  Result<void> read(Place place, size_t size, std::string* out);
  // The segment is retired; its file may become another one's.
  void forget(SegmentId segment);

 private:
  static constexpr size_t kOpenFiles = 32;
  struct Entry {
    SegmentId segment;
    std::shared_ptr<File> file;
  };

  Result<std::shared_ptr<File>> file_of(SegmentId segment);

  Directory& directory_;
  std::mutex mutex_;
  std::vector<Entry> open_;  // the last used at the end
};

}  // namespace millrace::journal
