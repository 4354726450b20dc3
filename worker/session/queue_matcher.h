// Which of a worker's subscriptions a queue belongs to: the one of its name, or else the longest
// prefix.
// Threads: immutable
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace millrace::worker {

class QueueMatcher {
 public:
  // Names of queues, and prefixes that end in '*'.
  explicit QueueMatcher(const std::vector<std::string>& subscriptions);

  // The index of the subscription; nothing if none matches.
  std::optional<uint16_t> find(std::string_view queue) const;

 private:
  std::unordered_map<std::string, uint16_t> subscriptions_;
  std::set<size_t, std::greater<>> prefix_lengths_;  // without the '*'
};

}  // namespace millrace::worker
