// What containers take in memory, as the allocator counts it, so that a limit in bytes means bytes.
// Shape:   the bytes of an allocation, of a node of libstdc++'s trees and hash tables, of a string
// Source:  glibc's malloc: 8 bytes before each allocation, rounded up to 16, at least 32. Tests compare
//          the sums with what an allocator counts
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace millrace::core {

constexpr uint64_t allocation_bytes(uint64_t size) {
  return std::max<uint64_t>(32, (size + 8 + 15) / 16 * 16);
}

// Of std::map<K, V> and std::set<K>: color and three pointers before the value.
template <typename Value>
inline constexpr uint64_t kTreeNodeBytes = allocation_bytes(32 + sizeof(Value));

// Of std::unordered_map: the link before the value, the hash behind it.
template <typename Map>
uint64_t hash_map_bytes(const Map& map) {
  return map.size() * allocation_bytes(16 + sizeof(typename Map::value_type)) +
         map.bucket_count() * sizeof(void*);
}

// A hash table keeps the buckets of its largest size; most of them can go when few values are left.
template <typename Map>
void shrink_if_sparse(Map& map) {
  constexpr size_t kWorthIt = 64, kSparse = 8;
  if (map.bucket_count() > kWorthIt && map.size() < map.bucket_count() / kSparse) map.rehash(0);
}

// Of std::deque: an index of blocks, and one block more than its values need. An empty one has
// both.
template <typename Value>
uint64_t deque_bytes(const std::deque<Value>& values) {
  constexpr uint64_t kOfBlock = std::max<uint64_t>(1, 512 / sizeof(Value)), kLeastIndex = 8;
  const uint64_t blocks = values.size() / kOfBlock + 1;
  return blocks * allocation_bytes(kOfBlock * sizeof(Value)) +
         allocation_bytes(std::max(kLeastIndex, blocks + 2) * sizeof(void*));
}

// Beyond the string's own object, which holds up to 15 bytes.
inline uint64_t string_bytes(std::string_view text) {
  return text.size() <= 15 ? 0 : allocation_bytes(text.size() + 1);
}

// What the broker holds of one kind, for people and for tests.
struct Held {
  std::string_view kind;
  uint64_t count = 0, bytes = 0;
};

}  // namespace millrace::core
