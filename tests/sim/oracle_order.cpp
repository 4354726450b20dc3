// The oracle's part about whose turn it is: first in, first out; priorities; producers of a fair
// queue.
#include <fmt/format.h>

#include "tests/sim/oracle.h"

namespace millrace::sim {

uint64_t Oracle::count_of(const records::Leased& record) {
  uint64_t jobs = 0;
  for (const auto& run : record.runs) jobs += run.count;
  return jobs;
}

// A low priority may go before a higher one in one lease of eight, and must in one of sixteen; in a
// fair queue no producer that waits is passed over for long.
void Oracle::check_turns(const std::vector<JobId>& leased) {
  if (leased.empty()) return;
  QueueTotals& queue = *jobs_[leased[0].value - 1].queue;
  queue.turns += leased.size();
  // Of those that still wait.
  uint8_t highest = 0;
  for (const auto& [priority, jobs] : queue.ready)
    if (!jobs.empty()) highest = std::max(highest, priority);
  JobId oldest{UINT64_MAX};  // of the lower ones
  for (const auto& [priority, jobs] : queue.ready)
    if (priority < highest && !jobs.empty()) oldest = std::min(oldest, *jobs.begin());
  for (JobId id : leased) queue.out_of_turn += jobs_[id.value - 1].priority < highest;
  if (queue.out_of_turn > queue.turns / core::kOldestTurn + 1)
    World::fail({"a higher priority goes first",
                 fmt::format("{} of {} leases went to lower ones", queue.out_of_turn, queue.turns),
                 leased[0].value});
  bool waits_on = oldest == std::exchange(queue.oldest, oldest) && oldest.value != UINT64_MAX;
  uint8_t top = highest;
  for (JobId id : leased) top = std::max(top, jobs_[id.value - 1].priority);
  for (JobId id : leased)  // a lower level had a turn: its own, or one that was older then
    waits_on = waits_on && jobs_[id.value - 1].priority == top;
  queue.passed_over = waits_on ? queue.passed_over + leased.size() : 0;
  if (queue.passed_over > 2 * core::kOldestTurn)
    World::fail({"no priority starves",
                 fmt::format("j{} waits, and {} leases went to higher priorities", oldest.value,
                             queue.passed_over),
                 oldest.value});
  if (queue.settings.order == records::Order::fair) check_fair(queue, leased);
}

// Of the producers with ready jobs at the level, none waits while the others have more than a few
// turns each. After a restart the jobs of those that said goodbye share one turn.
void Oracle::check_fair(QueueTotals& queue, const std::vector<JobId>& leased) {
  constexpr size_t kMostLooked = 300, kMostTurns = 3;
  auto is_looked_at = [](const auto& jobs) { return !jobs.empty() && jobs.size() <= kMostLooked; };
  std::erase_if(queue.passed, [&](const auto& level) {  // nobody waits there, or it isn't known who
    auto at = queue.ready.find(level.first);
    return at == queue.ready.end() || !is_looked_at(at->second);
  });
  for (const auto& [priority, jobs] : queue.ready) {
    if (!is_looked_at(jobs)) continue;
    std::map<Uuid, uint64_t> had;
    uint64_t given = 0;
    for (JobId id : leased) {
      const Job& job = jobs_[id.value - 1];
      if (job.priority != priority) continue;
      ++had[job.producer];
      ++given;
    }
    std::map<Uuid, JobId> waiting;  // and the oldest job of each
    for (JobId id : jobs)
      if (const Job& job = jobs_[id.value - 1]; !job.orphaned)
        waiting.try_emplace(job.producer, id);
    auto& passed = queue.passed[priority];
    for (auto [producer, oldest] : waiting) {
      QueueTotals::Passed& by = passed[producer];
      if (had.contains(producer) || by.oldest != oldest) {
        by = {oldest, 0, {}};
        continue;
      }
      by.leases += given;
      for (const auto& [other, count] : had) by.others.insert(other);
      if (by.leases > kMostTurns * by.others.size() + given)
        World::fail({"a fair queue is fair",
                     fmt::format("{} leases went to {} others while a job of {} was ready",
                                 by.leases, by.others.size(), producer.hex().substr(0, 6)),
                     leased[0].value});
    }
    std::erase_if(passed, [&](const auto& entry) { return !waiting.contains(entry.first); });
  }
}

// First come, first served, among jobs of one queue and priority.
void Oracle::check_order(const std::vector<JobId>& leased) const {
  for (JobId id : leased) {
    const Job& job = jobs_[id.value - 1];
    if (job.queue->settings.order != records::Order::fifo) continue;
    auto ready = job.queue->ready.find(job.priority);
    if (ready == job.queue->ready.end() || ready->second.empty() || *ready->second.begin() > id)
      continue;
    World::fail({"a queue is first in, first out",
                 fmt::format("j{} is leased before j{}", id.value, ready->second.begin()->value),
                 id.value});
  }
}

}  // namespace millrace::sim
