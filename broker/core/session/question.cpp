#include "broker/core/session/question.h"

#include <algorithm>

#include "broker/core/state/id_set.h"

namespace millrace::core {

std::vector<JobRange> distinct(std::vector<JobRange> jobs) {
  std::erase_if(jobs, [](const JobRange& range) { return range.count == 0; });
  const auto overlap = [](const JobRange& a, const JobRange& b) {
    return a.first.value + a.count > b.first.value;
  };
  if (std::adjacent_find(jobs.begin(), jobs.end(), overlap) == jobs.end()) return jobs;
  IdSet seen;
  std::vector<JobRange> once;
  for (const JobRange& range : jobs) {
    for (const JobRange& part : seen.missing(range)) once.push_back(part);
    seen.insert(range);
  }
  return once;
}

Question::Question(std::vector<JobRange> jobs, bool cancels)
    : ranges_(std::move(jobs)),
      asked_(ranges_.size()),
      stage_(cancels ? Stage::cancel : Stage::states) {
  for (const JobRange& range : ranges_) jobs_ += range.count;
}

uint64_t Question::memory_bytes() const {
  return allocation_bytes(ranges_.capacity() * sizeof(JobRange)) +
         allocation_bytes(states.ranges.capacity() * sizeof(states.ranges[0]));
}

std::optional<JobRange> Question::take(uint64_t most, JobId end) {
  if (range_ == ranges_.size()) return std::nullopt;
  const JobRange& range = ranges_[range_];
  JobRange part{{range.first.value + offset_}, range.count - offset_};
  if (part.first < end) part.count = std::min({part.count, most, end.value - part.first.value});
  offset_ += part.count;
  if (offset_ == range.count) ++range_, offset_ = 0;
  return part;
}

void Question::enter(Stage stage) {
  stage_ = stage;
  range_ = 0;
  offset_ = 0;
}

void Question::enter(Stage stage, std::vector<JobRange> jobs) {
  ranges_ = std::move(jobs);
  enter(stage);
}

}  // namespace millrace::core
