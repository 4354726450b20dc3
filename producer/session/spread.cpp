#include "producer/session/spread.h"

namespace millrace::producer {

std::optional<size_t> Spread::pick(const std::vector<Broker>& brokers, std::string_view key) {
  if (brokers.size() == 1)
    return brokers[0].up && brokers[0].room ? std::optional(size_t{0}) : std::nullopt;
  if (!key.empty()) return home(brokers, key);
  if (left_ > 0 && last_ < brokers.size() && brokers[last_].up && brokers[last_].room) return last_;
  return idlest(brokers);
}

void Spread::took(size_t index) {
  if (index != last_ || left_ == 0) left_ = kRun;
  last_ = index;
  --left_;
}

std::optional<size_t> Spread::home(const std::vector<Broker>& brokers, std::string_view key) const {
  std::optional<size_t> best;
  for (size_t i = 0; i < brokers.size(); ++i) {
    if (!brokers[i].up) continue;
    if (!best || weight(key, brokers[i].id) > weight(key, brokers[*best].id)) best = i;
  }
  return best && brokers[*best].room ? best : std::nullopt;
}

std::optional<size_t> Spread::idlest(const std::vector<Broker>& brokers) const {
  std::optional<size_t> best;
  for (size_t step = 1; step <= brokers.size(); ++step) {  // of equals the next in turn
    const size_t i = (last_ + step) % brokers.size();
    if (!brokers[i].up || !brokers[i].room) continue;
    if (!best || brokers[i].load < brokers[*best].load) best = i;
  }
  return best;
}

// FNV-1a over the key, begun with the broker, and then mixed as SplitMix64 does: FNV's high bits
// depend little on the last letters, and keys often differ in nothing else.
uint64_t Spread::weight(std::string_view key, uint64_t broker_id) {
  uint64_t hash = 0xCBF29CE484222325ull ^ broker_id * 0x9E3779B97F4A7C15ull;
  for (char c : key) hash = (hash ^ uint8_t(c)) * 0x100000001B3ull;
  hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9ull;
  hash = (hash ^ hash >> 27) * 0x94D049BB133111EBull;
  return hash ^ hash >> 31;
}

}  // namespace millrace::producer
