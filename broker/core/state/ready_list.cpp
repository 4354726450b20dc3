#include "broker/core/state/ready_list.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::core {

void ReadyList::insert(JobRange jobs, Rank rank) {
  auto [at_level, is_new_level] = levels_.try_emplace(rank.priority);
  Level& level = at_level->second;
  auto [at_subqueue, is_new_subqueue] = level.subqueues.try_emplace(subqueue_of(rank));
  IdSet& subqueue = at_subqueue->second;
  const uint64_t before = subqueue.size(), memory_before = subqueue.memory_bytes();
  subqueue.insert(jobs);
  MILLRACE_CHECK(subqueue.size() - before == jobs.count);
  level.size += subqueue.size() - before;
  size_ += subqueue.size() - before;
  *memory_bytes_ += subqueue.memory_bytes() - memory_before + (is_new_level ? kLevelBytes : 0) +
                    (is_new_subqueue ? kSubqueueBytes : 0);
}

void ReadyList::erase(JobRange jobs, Rank rank) {
  auto level = levels_.find(rank.priority);
  MILLRACE_CHECK(level != levels_.end());
  auto subqueue = level->second.subqueues.find(subqueue_of(rank));
  MILLRACE_CHECK(subqueue != level->second.subqueues.end());
  const uint64_t before = subqueue->second.size(), memory_before = subqueue->second.memory_bytes();
  subqueue->second.erase(jobs);
  MILLRACE_CHECK(before - subqueue->second.size() == jobs.count);
  level->second.size -= before - subqueue->second.size();
  size_ -= before - subqueue->second.size();
  *memory_bytes_ += subqueue->second.memory_bytes() - memory_before;
  if (subqueue->second.empty())
    level->second.subqueues.erase(subqueue), *memory_bytes_ -= kSubqueueBytes;
  if (level->second.size == 0) levels_.erase(level), *memory_bytes_ -= kLevelBytes;
  if (size_ == 0) turn_ = 0;
}

void ReadyList::take(JobRange jobs, Rank rank) {
  if (auto level = levels_.find(rank.priority); level != levels_.end())
    level->second.last = subqueue_of(rank);
  erase(jobs, rank);
  if (size_ > 0) turn_ += jobs.count;
}

// From each subqueue in turn, beginning behind the one that was served last; in equal shares as
// long as they last.
void ReadyList::next_of(const Level& level, uint64_t most, std::vector<JobRange>* runs) {
  auto append = [&](const IdSet& subqueue, uint64_t count) {
    for (JobRange run : subqueue.lowest(count)) runs->push_back(run);
  };
  if (level.subqueues.size() == 1) return append(level.subqueues.begin()->second, most);
  std::map<ProducerIndex, uint64_t> shares;
  uint64_t left = std::min(most, level.size);
  while (left > 0) {
    uint64_t share = std::max<uint64_t>(1, left / level.subqueues.size());
    auto subqueue = level.subqueues.upper_bound(level.last);
    for (size_t i = 0; i < level.subqueues.size() && left > 0; ++i, ++subqueue) {
      if (subqueue == level.subqueues.end()) subqueue = level.subqueues.begin();
      uint64_t& taken = shares[subqueue->first];
      uint64_t more = std::min({share, left, subqueue->second.size() - taken});
      taken += more;
      left -= more;
    }
  }
  for (auto [producer, share] : shares) append(level.subqueues.at(producer), share);
}

std::vector<JobRange> ReadyList::next(uint64_t most) const {
  std::vector<JobRange> runs;
  most = std::min(most, size_);
  if (levels_.size() <= 1) {
    if (!levels_.empty()) next_of(levels_.begin()->second, most, &runs);
    return runs;
  }
  const uint64_t for_oldest = (turn_ + most) / kOldestTurn - turn_ / kOldestTurn;
  std::map<uint8_t, uint64_t, std::greater<>> shares;
  uint64_t left = most - for_oldest;
  for (const auto& [priority, level] : levels_) {
    shares[priority] = std::min(left, level.size);
    left -= shares[priority];
  }
  // The rest goes to the lower level whose oldest job is the oldest, then wherever there is more.
  left += for_oldest;
  auto head = [](const Level& level) {
    JobId oldest{UINT64_MAX};
    for (const auto& [producer, subqueue] : level.subqueues)
      oldest = std::min(oldest, subqueue.lowest(1)[0].first);
    return oldest;
  };
  std::vector<std::pair<JobId, uint8_t>> by_age;
  for (auto level = std::next(levels_.begin()); level != levels_.end(); ++level)
    by_age.emplace_back(head(level->second), level->first);
  std::sort(by_age.begin(), by_age.end());
  by_age.emplace_back(JobId{}, levels_.begin()->first);
  for (auto [oldest, priority] : by_age) {
    uint64_t more = std::min(left, levels_.at(priority).size - shares[priority]);
    shares[priority] += more;
    left -= more;
  }
  MILLRACE_CHECK(left == 0);  // the levels hold `most` jobs
  for (auto [priority, share] : shares)
    if (share > 0) next_of(levels_.at(priority), share, &runs);
  return runs;
}

bool ReadyList::contains(JobId job, Rank rank) const {
  auto level = levels_.find(rank.priority);
  if (level == levels_.end()) return false;
  auto subqueue = level->second.subqueues.find(subqueue_of(rank));
  return subqueue != level->second.subqueues.end() && subqueue->second.contains(job);
}

std::vector<JobRange> ReadyList::runs() const {
  std::vector<JobRange> all;
  for (const auto& [priority, level] : levels_)
    for (const auto& [producer, subqueue] : level.subqueues)
      for (JobRange run : subqueue.runs()) all.push_back(run);
  return all;
}

void ReadyList::set_order(records::Order order) {
  MILLRACE_CHECK(empty());
  order_ = order;
}

}  // namespace millrace::core
