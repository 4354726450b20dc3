// Sequences of one producer over its runs: each run (or round of a resume) has numbers of its own,
// so none is ever used for a second payload.
// Shape:   sequence = round × 2^40 + number, from 1
#pragma once

#include "common/base/ids.h"

namespace millrace::producer {

inline constexpr int kRoundShift = 40;
inline Seq seq_of(uint64_t round, uint64_t number) { return {round << kRoundShift | number}; }
inline uint64_t number_of(Seq seq) { return seq.value & ((uint64_t{1} << kRoundShift) - 1); }

}  // namespace millrace::producer
