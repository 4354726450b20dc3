// Where a journal ends: what its next segment and its next batch are.
#pragma once

#include <cstdint>

#include "common/base/ids.h"

namespace millrace::journal {

// Below this a journal is replayed in well under a second, and every byte of it is checked; a
// snapshot would save little and hide damage.
inline constexpr uint64_t kWorthSnapshot = 512 << 20;

struct Position {
  SegmentId segment{1};
  BatchSeq batch{1};
  uint64_t chain = 0;
  bool operator==(const Position&) const = default;
};

}  // namespace millrace::journal
