#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <iterator>

namespace millrace::fuzz {
namespace {

// Lengths, types and limits of msgpack and of our own fields.
constexpr unsigned char kBytes[] = {0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0x91, 0x9f, 0xa0,
                                    0xbf, 0xc0, 0xc1, 0xc4, 0xc5, 0xc6, 0xc7, 0xcb, 0xcc,
                                    0xcd, 0xce, 0xcf, 0xd3, 0xd9, 0xdc, 0xdd, 0xdf, 0xff};
constexpr uint64_t kNumbers[] = {0,          1,          255,        256,           4095,
                                 4096,       65535,      65536,      (1u << 31),    UINT32_MAX,
                                 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 1};

}  // namespace

std::string Mutator::next() {
  std::string input = corpus_[below(corpus_.size())];
  for (size_t i = 1 + below(4); i > 0; --i) mutate(input);
  input.resize(std::min(input.size(), kMaxInput));
  return input;
}

void Mutator::mutate(std::string& input) {
  const size_t at = below(input.size());
  switch (input.empty() ? 8 : below(9)) {
    case 0:
      input[at] = char(input[at] ^ (1 << below(8)));
      break;
    case 1:
      input[at] = char(kBytes[below(std::size(kBytes))]);
      break;
    case 2:
      input[at] = char(random_());
      break;
    case 3:
      put_number(input);
      break;
    case 4:
      input.erase(at, 1 + below(std::min<size_t>(16, input.size() - at)));
      break;
    case 5:
      input.insert(at, input.substr(at, 1 + below(32)));
      break;
    case 6:
      input.resize(at);
      break;
    case 7:
      splice(input);
      break;
    case 8:
      input.insert(at, 1, char(kBytes[below(std::size(kBytes))]));
      break;
  }
}

// Little-endian as in headers, or big-endian as in msgpack.
void Mutator::put_number(std::string& input) {
  const uint64_t number = kNumbers[below(std::size(kNumbers))];
  const size_t width = size_t{1} << (1 + below(3)), at = below(input.size());
  const bool is_big = below(2) == 0;
  for (size_t i = 0; i < width && at + i < input.size(); ++i)
    input[at + i] = char(number >> 8 * (is_big ? width - 1 - i : i));
}

void Mutator::splice(std::string& input) {
  const std::string& other = corpus_[below(corpus_.size())];
  if (other.empty()) return;
  const size_t from = below(other.size());
  input.insert(below(input.size()), other, from, 1 + below(other.size() - from));
}

}  // namespace millrace::fuzz
