#include "tests/sim/queue_shares.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/world.h"

namespace millrace::sim {
namespace {

constexpr uint64_t kMostGranted = 256;  // jobs of a queue in one dispatch that are looked at

bool takes(const core::Session& session, std::string_view queue) {
  return session.is_worker &&
         std::any_of(session.subscriptions.begin(), session.subscriptions.end(),
                     [&](std::string_view pattern) {
                       return core::is_prefix(pattern)
                                  ? queue.starts_with(pattern.substr(0, pattern.size() - 1))
                                  : pattern == queue;
                     });
}

std::set<SessionId> workers_of(const core::Core& core, std::string_view queue) {
  std::set<SessionId> workers;
  for (const auto& [id, session] : core.sessions())
    if (takes(session, queue)) workers.insert(id);
  return workers;
}

bool has_other_limits(const core::Queue& queue) {
  return queue.settings.paused || queue.settings.concurrency > 0 || queue.settings.rate > 0;
}

bool are_in_memory(const core::Queue& queue, const QueueShares::IsInMemory& is_in_memory) {
  for (const auto& run : queue.ready.next(kMostGranted))
    for (uint64_t i = 0; i < run.count; ++i)
      if (!is_in_memory({run.first.value + i})) return false;
  return true;
}

}  // namespace

void QueueShares::before(core::Core& core, const IsInMemory& is_in_memory) {
  contenders_.clear();
  if (!core.state().suspects().empty()) return;  // they go first, whatever the weights
  std::map<std::string, std::set<SessionId>> audiences;
  for (const core::Queue& queue : core.state().queues())
    if (queue.in_use()) audiences[queue.name] = workers_of(core, queue.name);
  auto have_no_others = [&](const std::set<SessionId>& workers) {
    return std::all_of(audiences.begin(), audiences.end(), [&](const auto& other) {
      return other.second == workers ||
             std::none_of(other.second.begin(), other.second.end(),
                          [&](SessionId id) { return workers.contains(id); });
    });
  };
  for (const core::Queue& queue : core.state().queues()) {
    if (queue.ready.size() == 0 || has_other_limits(queue) || audiences[queue.name].empty() ||
        !have_no_others(audiences[queue.name]) || !are_in_memory(queue, is_in_memory))
      continue;
    Contender contender{queue.settings.weight, {}};
    for (SessionId id : audiences[queue.name])
      contender.workers[id] = core.room(id, *core.state().find_queue(queue.name));
    contenders_.emplace(queue.name, std::move(contender));
  }
}

size_t QueueShares::after(const core::Core& core, std::span<const core::Send> sends) {
  add_grants(sends);
  std::erase_if(contenders_, [&](const auto& entry) {
    const auto index = core.state().find_queue(entry.first);
    return !index || core.state().queues()[*index].ready.size() == 0;
  });
  std::map<Names, Lead> leads;
  for (auto first = contenders_.begin(); first != contenders_.end(); ++first) {
    for (auto second = std::next(first); second != contenders_.end(); ++second) {
      if (first->second.workers != second->second.workers) continue;
      const Names names(first->first, second->first);
      const std::pair weights(first->second.weight, second->second.weight);
      auto known = leads_.find(names);
      Lead lead{names, weights};
      if (known != leads_.end() && known->second.weights == weights) lead = known->second;
      advance(lead, first->second, second->second);
      leads.emplace(names, lead);
    }
  }
  leads_ = std::move(leads);
  return size_t(std::count_if(leads_.begin(), leads_.end(),
                              [](const auto& entry) { return entry.second.counts; }));
}

void QueueShares::add_grants(std::span<const core::Send> sends) {
  for (const core::Send& send : sends) {
    const auto* grant = std::get_if<protocol::LeaseGrant>(&send.message);
    if (!grant) continue;
    auto contender = contenders_.find(grant->queue);
    if (contender == contenders_.end()) continue;
    const double share = double(grant->jobs.size()) / double(contender->second.weight);
    contender->second.granted += share;
    contender->second.largest = std::max(contender->second.largest, share);
  }
}

void QueueShares::advance(Lead& lead, const Contender& first, const Contender& second) {
  constexpr double kRounding = 1e-6;
  lead.largest_of_first = std::max(lead.largest_of_first, first.largest);
  lead.largest_of_second = std::max(lead.largest_of_second, second.largest);
  if (!lead.counts) {
    lead.counts = lead.largest_of_first > 0 && lead.largest_of_second > 0;
    return;
  }
  lead.now += first.granted - second.granted;
  lead.least = std::min(lead.least, lead.now);
  lead.most = std::max(lead.most, lead.now);
  if (lead.most - lead.least > lead.largest_of_first + lead.largest_of_second + kRounding)
    World::fail(
        {"queues share workers by their weights",
         fmt::format("{} of weight {} and {} of weight {} are {:.1f} apart, and the largest "
                     "grants are {:.1f} and {:.1f}",
                     lead.names.first, lead.weights.first, lead.names.second, lead.weights.second,
                     lead.most - lead.least, lead.largest_of_first, lead.largest_of_second)});
}

}  // namespace millrace::sim
