// All that a journal's directory says, damage and all: what `journal verify`, `stat` and `repair`
// have in common.
// Shape:   one walk over the segments, each record through a JournalRepairer
// Errors:  65 no journal, or one of another format version where that ends the survey; 74 I/O
// Threads: one
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "broker/offline/journal_repairer.h"
#include "common/journal/walk.h"

namespace millrace::offline {

// As a broker would have them that started now.
struct JobTotals {
  uint64_t accepted = 0, scheduled = 0, ready = 0, leased = 0, retry_wait = 0;
  uint64_t dead = 0, done = 0, cancelled = 0, expired = 0;

  uint64_t live() const { return scheduled + ready + leased + retry_wait; }
};

struct OldestJob {
  JobId job;
  core::JobState state = core::JobState::ready;
  WallMs accepted{};
};

struct Survey {
  journal::Listing files;
  uint64_t used_bytes = 0;  // of the segments, up to the last batch of each
  uint64_t batches = 0;     // valid ones, with seals
  uint64_t sealed = 0;      // segments
  std::array<uint64_t, std::variant_size_v<Record>> records{};  // by type
  uint64_t payload_bytes = 0;
  std::optional<uint32_t> version;  // of the format
  std::optional<BrokerId> broker;
  WallMs first{}, last{};                  // of the records' times
  std::vector<journal::Finding> findings;  // but for the torn tail
  std::optional<journal::Finding> torn_tail;
  uint64_t incarnation = 0;
  JobTotals jobs;                   // of what could be read
  std::optional<OldestJob> oldest;  // of those that have not ended
  std::vector<Lost> lost;
  RelocatedJobs unsaved;  // among them: those that a survey saves which has these ahead
  uint64_t left_out = 0;

  bool is_whole() const { return findings.empty(); }
  uint64_t record_count() const;
};

struct SurveyProgress {
  uint64_t bytes = 0, total = 0, batches = 0, records = 0;
};

// `emit` gets the repaired history (JournalRepairer), `progress` is called after each batch.
Result<Survey> survey(journal::Directory& directory, JournalRepairer::Emit emit,
                      const std::function<void(const SurveyProgress&)>& progress,
                      RelocatedJobs ahead = {});

// The segments, or why there is nothing to look at.
Result<journal::Listing> list_journal(journal::Directory& directory);

}  // namespace millrace::offline
