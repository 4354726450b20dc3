#include "worker/session/queue_matcher.h"

namespace millrace::worker {

QueueMatcher::QueueMatcher(const std::vector<std::string>& subscriptions) {
  for (size_t i = 0; i < subscriptions.size(); ++i) {
    subscriptions_.try_emplace(subscriptions[i], uint16_t(i));
    if (subscriptions[i].ends_with('*')) prefix_lengths_.insert(subscriptions[i].size() - 1);
  }
}

std::optional<uint16_t> QueueMatcher::find(std::string_view queue) const {
  std::string name(queue);
  if (auto exact = subscriptions_.find(name); exact != subscriptions_.end()) return exact->second;
  for (size_t length : prefix_lengths_) {
    if (length > queue.size()) continue;
    name.assign(queue.substr(0, length)) += '*';
    if (auto prefix = subscriptions_.find(name); prefix != subscriptions_.end())
      return prefix->second;
  }
  return std::nullopt;
}

}  // namespace millrace::worker
