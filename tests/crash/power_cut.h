// Every state of a disk that a power cut at one moment may leave.
// Limits:  all subsets of up to kExhaustiveUnits pieces; of more, those with one piece or all but
//          one, those that are cut off at a piece, and kSamples at random
// Threads: one
#pragma once

#include <random>

#include "tests/crash/fake_directory.h"

namespace millrace::test {

inline constexpr size_t kExhaustiveUnits = 9;
inline constexpr int kSamples = 100;
// Under AddressSanitizer, which makes this slow, only one state of so many, chosen at random.
#ifdef __SANITIZE_ADDRESS__
inline constexpr size_t kOneOf = 10;
#else
inline constexpr size_t kOneOf = 1;
#endif

// Calls check() for every state that the cut may leave, or for a sample of them where there are
// too many. Returns how many.
template <typename Check>
size_t for_each_crash(const Disk& disk, std::mt19937& random, Check&& check) {
  const auto pieces = disk.units();
  size_t units = pieces.size(), states = 0;
  auto visit = [&](const std::function<bool(size_t)>& keep) {
    for (size_t names = 0; names <= disk.pending_names(); ++names) {
      if (kOneOf > 1 && random() % kOneOf != 0) continue;
      ++states;
      check(disk.crash(pieces, keep, names));
    }
  };
  if (units <= kExhaustiveUnits) {
    for (size_t mask = 0; mask < size_t{1} << units; ++mask)
      visit([&](size_t i) { return mask >> i & 1; });
    return states;
  }
  visit([](size_t) { return false; });
  visit([](size_t) { return true; });
  for (size_t unit = 0; unit < units; ++unit) {
    visit([&](size_t i) { return i == unit; });
    visit([&](size_t i) { return i != unit; });
    visit([&](size_t i) { return i < unit; });
    visit([&](size_t i) { return i >= unit; });
  }
  for (int sample = 0; sample < kSamples; ++sample) {
    std::mt19937 coins(random());
    visit([&](size_t) { return coins() % 2 == 0; });
  }
  return states;
}

}  // namespace millrace::test
