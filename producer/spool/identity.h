// The file `producer` of a spool: its id, and how often it was opened (docs/SPOOL.md, section 3).
// Shape:   one line, with a checksum, since a run that came twice would make the broker take new
//          submissions for old ones
// Errors:  65 another version, or bytes that nobody wrote so; 74 I/O
// Threads: one
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/journal/files.h"

namespace millrace::producer {

struct SpoolIdentity {
  static constexpr uint64_t kMaxRun = (uint64_t{1} << 24) - 1;

  Uuid producer;
  uint64_t run = 0;
  bool operator==(const SpoolIdentity&) const = default;
};

std::string identity_text(const SpoolIdentity& identity);
// The error's sentence says what is wrong with it.
Result<SpoolIdentity> parse_identity(std::string_view text);

// None: there is no such file.
Result<std::optional<SpoolIdentity>> read_identity(journal::Directory& root);
// It is on disk, under its name, when this returns.
Result<void> write_identity(journal::Directory& root, const SpoolIdentity& identity);

}  // namespace millrace::producer
