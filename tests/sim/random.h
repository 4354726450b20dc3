// The simulator's only source of chance: small, fast, the same on every machine and library.
// Shape:   one stream for each thing that decides (a producer's load, the disk, each fault), forked
//          by name, so that leaving one of them out does not change the others
// Threads: one
// Source:  SplitMix64
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/base/ids.h"

namespace millrace::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // A stream of its own, the same for the same name and number.
  Random fork(std::string_view name, uint64_t number = 0) const {
    uint64_t mixed = state_ ^ (number + 1) * 0xD1B54A32D192ED03ull;
    for (char c : name) mixed = (mixed ^ uint8_t(c)) * 0x100000001B3ull;
    Random stream(mixed);
    stream.next();
    return stream;
  }

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
  }
  uint64_t below(uint64_t end) { return end == 0 ? 0 : next() % end; }
  // Both ends included.
  int64_t between(int64_t least, int64_t most) {
    return least + int64_t(below(uint64_t(most - least) + 1));
  }
  // Small values are as likely as large ones: between 1 and 1000, 10 is the middle.
  int64_t spread(int64_t least, int64_t most) {
    int64_t value = most;
    for (int halvings = int(below(10)); halvings > 0 && value / 2 >= least; --halvings) value /= 2;
    return between(least, value);
  }
  bool chance(uint64_t per_mille) { return below(1000) < per_mille; }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }
  Uuid uuid() {
    Uuid id;
    for (auto& byte : id.bytes) byte = uint8_t(next());
    return id;
  }

 private:
  uint64_t state_;
};

}  // namespace millrace::sim
