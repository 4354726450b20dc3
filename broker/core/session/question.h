// A QUERY or CANCEL on its way to its answer, and where the answer has got to: what a peer asks in
// a few bytes may take much to say, so it is said a slice at a time.
// Shape:   take() → the next jobs to look at; the stages are cancel (of a CANCEL), states, outcomes
// Limits:  kMaxRangesPerMessage ranges of kMaxJobsPerQuery jobs; twice as many ranges when they overlap
// Owns:    its ranges and the STATES gathered so far
// Threads: one
#pragma once

#include <optional>
#include <vector>

#include "common/protocol/messages.h"

namespace millrace::core {

using protocol::JobRange;

// The same jobs in the same order, each of them once, where it was named first.
std::vector<JobRange> distinct(std::vector<JobRange> jobs);

class Question {
 public:
  enum class Stage : uint8_t { cancel, states, outcomes };

  // The ranges are distinct().
  Question(std::vector<JobRange> jobs, bool cancels);

  // Up to `most` jobs, at least one. Jobs from `end` on do not exist: those of a range come
  // together, however many they are. Nothing: the stage is over.
  std::optional<JobRange> take(uint64_t most, JobId end);
  // Begins the next stage, over the same jobs or over others.
  void enter(Stage stage);
  void enter(Stage stage, std::vector<JobRange> jobs);

  Stage stage() const { return stage_; }
  uint64_t jobs() const { return jobs_; }
  uint64_t memory_bytes() const;
  size_t ranges() const { return asked_; }  // as they were asked

  protocol::States states;  // of the jobs looked at so far
  bool is_long = false;     // one of the few whose STATES are gathered over several slices

 private:
  std::vector<JobRange> ranges_;
  size_t asked_;
  uint64_t jobs_ = 0;
  Stage stage_;
  size_t range_ = 0;
  uint64_t offset_ = 0;  // into the range
};

}  // namespace millrace::core
