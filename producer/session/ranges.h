// Arithmetic of ranges of sequences.
// Threads: any
#pragma once

#include <algorithm>

#include "producer/session/listener.h"

namespace millrace::producer {

inline SeqRange overlap(SeqRange a, SeqRange b) {
  Seq first = std::max(a.first, b.first), end = std::min(a.end(), b.end());
  return {first, end > first ? end.value - first.value : 0};
}

// Both ends exist, so a broker's count can't reach beyond what was submitted.
inline SeqRange clamp(Seq first, uint64_t count, SeqRange within) {
  Seq end = within.end();
  if (first < within.end()) end = {std::min(count, end.value - first.value) + first.value};
  first = std::max(first, within.first);
  return {first, end > first ? end.value - first.value : 0};
}

}  // namespace millrace::producer
