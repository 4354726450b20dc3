// How large a Checkpoint can become: the sum of named limits, so that settings which would make it
// too large for a segment are refused at the start.
// Shape:   settings → bytes; numbers at their longest encoding, every limit reached at once
// Source:  docs/JOURNAL.md, section 5, "The size of a Checkpoint"
#pragma once

#include "broker/core/core.h"

namespace millrace::core {

// Of a segment. So at least a quarter of what is written is what happened.
inline constexpr double kCheckpointShare = 0.75;

uint64_t max_checkpoint_bytes(const Settings& settings);

// The largest --history with which, all else as it is, a Checkpoint stays within its share of a
// segment.
uint64_t max_history(const Settings& settings, uint64_t segment_bytes);

}  // namespace millrace::core
