// Where a spool lies: its directory, and in it a folder for each spool queue. Tests put directories
// behind it that forget what was not synced.
// Errors:  those of journal::open_directory() and journal::Journal::open(), in a producer's words
// Owns:    the directory's lock
// Threads: one; a spool queue's journal has its own
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/journal/files.h"
#include "common/journal/journal.h"

namespace millrace::producer {

class SpoolPlace {
 public:
  using SpoolQueue = Result<std::unique_ptr<journal::Journal>>;

  virtual ~SpoolPlace() = default;
  virtual journal::Directory& root() = 0;
  virtual Result<std::vector<std::string>> folders() = 0;  // that spool queues may be in
  // Made if it is not there.
  virtual SpoolQueue open_spool_queue(const std::string& folder, uint64_t segment_bytes,
                                      const journal::Journal::Replay& replay) = 0;
  // What a folder's journal says; it is not changed, and may hold none.
  virtual Result<void> look(const std::string& folder, const journal::Journal::Replay& replay) = 0;
};

Result<std::unique_ptr<SpoolPlace>> open_spool_place(const std::string& path);

// The broker's authority, with '_' for each character that is not one of A-Z a-z 0-9 . _ -
std::string spool_queue_folder(std::string_view authority);
// Whether it ends in _PORT, as those of spool queues do.
bool is_spool_queue_folder(std::string_view name);

}  // namespace millrace::producer
