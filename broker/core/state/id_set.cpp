#include "broker/core/state/id_set.h"

#include <algorithm>

namespace millrace::core {

void IdSet::insert(JobRange range) {
  if (range.count == 0) return;
  uint64_t first = range.first.value, end = first + range.count;
  auto next = runs_.upper_bound(first);
  auto grown = runs_.end();  // the run before, if it touches: it grows instead of a new node
  if (next != runs_.begin() && std::prev(next)->second >= first) {
    grown = std::prev(next);
    first = grown->first;
    end = std::max(end, grown->second);
    size_ -= grown->second - grown->first;
  }
  while (next != runs_.end() && next->first <= end) {
    end = std::max(end, next->second);
    size_ -= next->second - next->first;
    next = runs_.erase(next);
  }
  if (grown != runs_.end()) {
    grown->second = end;
  } else {
    runs_.emplace_hint(next, first, end);
  }
  size_ += end - first;
}

void IdSet::erase(JobRange range) {
  if (range.count == 0) return;
  uint64_t first = range.first.value, end = first + range.count;
  auto run = runs_.upper_bound(first);
  if (run != runs_.begin()) --run;
  while (run != runs_.end() && run->first < end) {
    auto [run_first, run_end] = *run;
    if (run_end <= first) {
      ++run;
      continue;
    }
    size_ -= std::min(end, run_end) - std::max(first, run_first);
    if (run_first < first) {
      run->second = first;
      ++run;
      if (run_end > end) runs_.emplace_hint(run, end, run_end);
    } else if (run_end > end) {  // the same node under its new key: no allocation
      auto node = runs_.extract(run++);
      node.key() = end;
      runs_.insert(run, std::move(node));
    } else {
      run = runs_.erase(run);
    }
  }
}

bool IdSet::contains(JobId id) const {
  auto next = runs_.upper_bound(id.value);
  return next != runs_.begin() && std::prev(next)->second > id.value;
}

std::vector<JobRange> IdSet::missing(JobRange range) const {
  std::vector<JobRange> parts;
  uint64_t first = range.first.value;
  const uint64_t end = first + range.count;
  auto run = runs_.upper_bound(first);
  if (run != runs_.begin()) --run;
  for (; run != runs_.end() && run->first < end; ++run) {
    if (run->first > first) parts.push_back({{first}, run->first - first});
    first = std::max(first, run->second);
  }
  if (first < end) parts.push_back({{first}, end - first});
  return parts;
}

std::optional<JobRange> IdSet::at_or_after(JobId id) const {
  auto next = runs_.upper_bound(id.value);
  if (next != runs_.begin() && std::prev(next)->second > id.value)
    return JobRange{id, std::prev(next)->second - id.value};
  if (next == runs_.end()) return std::nullopt;
  return JobRange{{next->first}, next->second - next->first};
}

std::vector<JobRange> IdSet::lowest(uint64_t most) const {
  std::vector<JobRange> found;
  for (auto run = runs_.begin(); most > 0 && run != runs_.end(); ++run) {
    uint64_t count = std::min(most, run->second - run->first);
    found.push_back({{run->first}, count});
    most -= count;
  }
  return found;
}

std::vector<JobRange> IdSet::runs() const {
  std::vector<JobRange> all;
  for (auto [first, end] : runs_) all.push_back({{first}, end - first});
  return all;
}

}  // namespace millrace::core
