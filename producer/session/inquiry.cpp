#include "producer/session/inquiry.h"

#include <algorithm>
#include <map>

#include "common/base/check.h"

namespace millrace::producer {
namespace {

// Takes up to `count` jobs off the front of the front range.
protocol::JobRange take(std::deque<protocol::JobRange>& ranges, uint64_t count) {
  MILLRACE_CHECK(!ranges.empty() && ranges.front().count > 0 && count > 0);
  protocol::JobRange& front = ranges.front();
  protocol::JobRange taken{front.first, std::min(front.count, count)};
  front.first.value += taken.count;
  front.count -= taken.count;
  if (front.count == 0) ranges.pop_front();
  return taken;
}

}  // namespace

void Inquiry::ask(Range jobs) {
  if (jobs.count == 0) return;
  if (!waiting_.empty() &&
      waiting_.back().first.value + waiting_.back().count == jobs.first.value) {
    waiting_.back().count += jobs.count;
  } else {
    waiting_.push_back(jobs);
  }
}

std::optional<protocol::Query> Inquiry::next() {
  if (!asked_.empty() || waiting_.empty()) return std::nullopt;
  uint64_t jobs = 0;
  while (!waiting_.empty() && jobs < kJobsPerQuery &&
         asked_.size() < protocol::kMaxRangesPerMessage) {
    asked_.push_back(take(waiting_, kJobsPerQuery - jobs));
    jobs += asked_.back().count;
  }
  MILLRACE_CHECK(jobs > 0 && jobs <= kJobsPerQuery);
  return protocol::Query{{asked_.begin(), asked_.end()}};
}

void Inquiry::answered(const protocol::States& states, const Visit& visit) {
  std::map<uint64_t, uint64_t> told;  // first → end
  auto skip_told = [&] {              // a job that the QUERY names twice is told once
    while (!asked_.empty()) {
      auto after = told.upper_bound(asked_.front().first.value);
      if (after == told.begin() || std::prev(after)->second <= asked_.front().first.value) return;
      take(asked_, 1);
    }
  };
  for (const auto& range : states.ranges) {
    uint64_t left = range.jobs.count;
    uint64_t job = range.jobs.first.value;
    if (!asked_.empty() && asked_.front().first.value != job) skip_told();
    while (left > 0 && !asked_.empty() && asked_.front().first.value == job) {
      Range part = take(asked_, left);
      visit(part, range.state);
      told[job] = job + part.count;
      left -= part.count;
      job += part.count;
      if (left > 0 && !asked_.empty() && asked_.front().first.value != job) skip_told();
    }
  }
  skip_told();
}

void Inquiry::restart() {
  MILLRACE_CHECK(asked_.size() <= protocol::kMaxRangesPerMessage);
  while (!asked_.empty()) {
    waiting_.push_front(asked_.back());
    asked_.pop_back();
  }
}

}  // namespace millrace::producer
