// The journal over any directory: Journal::open() gives it a real one, tests their own.
// Errors:  those of Journal::open() but for the directory's own
// Threads: the directory is used from the caller's thread and the journal's
#pragma once

#include <memory>

#include "common/journal/files.h"
#include "common/journal/journal.h"

namespace millrace::journal {

Result<std::unique_ptr<Journal>> open_journal(std::unique_ptr<Directory> directory,
                                              const JournalOptions& options,
                                              const Journal::Replay& replay, Recovered* recovered,
                                              std::optional<Position> snapshot = std::nullopt);

}  // namespace millrace::journal
