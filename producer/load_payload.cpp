#include "producer/load_payload.h"

#include <algorithm>

namespace millrace::producer {
namespace {

constexpr size_t kDigitsPerNumber = 16;

void put_hex(uint64_t number, char* out) {
  for (size_t i = kDigitsPerNumber; i-- > 0; number >>= 4) out[i] = "0123456789abcdef"[number & 15];
}

}  // namespace

LoadPayload::LoadPayload(uint64_t run, size_t size)
    : text_(std::max(size, 2 * kDigitsPerNumber), '.'), size_(size) {
  for (size_t i = 2 * kDigitsPerNumber; i < text_.size(); ++i) text_[i] = char('a' + i % 26);
  put_hex(run, text_.data());
}

std::string_view LoadPayload::of(Seq seq) {
  put_hex(seq.value, text_.data() + kDigitsPerNumber);
  size_t skip = size_ < 2 * kDigitsPerNumber ? 2 * kDigitsPerNumber - size_ : 0;
  return std::string_view(text_).substr(skip, size_);
}

}  // namespace millrace::producer
