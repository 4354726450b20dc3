#include "producer/load/payload.h"

#include <algorithm>

namespace millrace::producer {
namespace {

constexpr size_t kDigitsPerNumber = 16;

void put_hex(uint64_t number, char* out) {
  for (size_t i = kDigitsPerNumber; i-- > 0; number >>= 4) out[i] = "0123456789abcdef"[number & 15];
}

// Spreads neighbouring numbers over all 64 bits.
uint64_t spread(uint64_t number) {
  number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
  number = (number ^ number >> 27) * 0x94d049bb133111eb;
  return number ^ number >> 31;
}

}  // namespace

LoadPayload::LoadPayload(uint64_t run, SizeMix sizes)
    : run_(run),
      sizes_(std::move(sizes)),
      text_(std::max(sizes_.largest(), 2 * kDigitsPerNumber), '.') {
  for (size_t i = 2 * kDigitsPerNumber; i < text_.size(); ++i) text_[i] = char('a' + i % 26);
  put_hex(run, text_.data());
}

std::string_view LoadPayload::of(Seq seq) {
  put_hex(seq.value, text_.data() + kDigitsPerNumber);
  const size_t size = sizes_.size_of(spread(run_ + seq.value * 0x9e3779b97f4a7c15));
  const size_t skip = size < 2 * kDigitsPerNumber ? 2 * kDigitsPerNumber - size : 0;
  return std::string_view(text_).substr(skip, size);
}

}  // namespace millrace::producer
