// The payloads of load: unlike each other, cheap to make, and made again from their sequence when a
// result is to be compared with what was sent.
// Shape:   run (16 hex digits), sequence (16 hex digits), filler; a payload shorter than 32 bytes is
//          the end of those 32 digits
// Threads: one thread
#pragma once

#include <string>
#include <string_view>

#include "common/ids.h"

namespace millrace::producer {

class LoadPayload {
 public:
  LoadPayload(uint64_t run, size_t size);
  // Valid until the next call.
  std::string_view of(Seq seq);

 private:
  std::string text_;
  size_t size_;
};

}  // namespace millrace::producer
