#include "common/base/utf8.h"

#include <cstdint>

namespace millrace::protocol {
namespace {

bool is_between(uint8_t byte, uint8_t low, uint8_t high) { return byte >= low && byte <= high; }

// Bytes of the well-formed character that `text` begins with; 0 if it begins with none.
size_t character_size(std::string_view text) {
  auto at = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : uint8_t(0); };
  const uint8_t first = at(0);
  if (first < 0x80) return 1;
  if (is_between(first, 0xc2, 0xdf)) return is_between(at(1), 0x80, 0xbf) ? 2 : 0;
  // No overlong forms, no surrogates, nothing beyond U+10FFFF.
  const uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (!is_between(first, 0xe0, 0xf4) || !is_between(at(1), low, high) ||
      !is_between(at(2), 0x80, 0xbf))
    return 0;
  if (first < 0xf0) return 3;
  return is_between(at(3), 0x80, 0xbf) ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    size_t size = character_size(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    size_t size = character_size(text);
    if (size == 0)
      out += '?';
    else
      out += text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return out;
}

}  // namespace millrace::protocol
