// The payloads of load: unlike each other, cheap to make, and made again from their sequence when a
// result is to be compared with what was sent.
// Shape:   run (16 hex digits), sequence (16 hex digits), filler; a payload shorter than 32 bytes is
//          the end of those 32 digits. The size too follows from run and sequence.
// Threads: one thread
#pragma once

#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "producer/load/mix.h"

namespace millrace::producer {

class LoadPayload {
 public:
  LoadPayload(uint64_t run, SizeMix sizes);
  // Valid until the next call.
  std::string_view of(Seq seq);

 private:
  uint64_t run_;
  SizeMix sizes_;
  std::string text_;
};

}  // namespace millrace::producer
