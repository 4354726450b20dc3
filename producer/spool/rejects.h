// rejected.ndjson: what a broker will never take, for people to look at (docs/SPOOL.md, section 6).
// Shape:   lines are appended, and on disk when append_rejected() returns; what a crash left of a
//          line at the end is cut off first. The file may be moved away between any two of them.
// Errors:  74 I/O, a full disk among them
// Threads: one
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/journal/files.h"
#include "common/protocol/messages.h"

namespace millrace::producer {

struct RejectedLine {
  WallMs time;
  std::string_view broker;
  std::string_view queue;
  Seq seq;
  std::string_view reason;
  std::string_view message;
  const protocol::SubmitOptions& options;
  std::string_view payload;
};

std::string text_of(const RejectedLine& line);  // with its line end

Result<void> append_rejected(journal::Directory& root, std::string_view lines);

}  // namespace millrace::producer
