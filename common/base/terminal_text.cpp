#include "common/base/terminal_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/utf8.h"

namespace millrace {
namespace {

// Of the character that begins here; 0 if no character of UTF-8 does.
size_t character_size(std::string_view text) {
  for (size_t size = 1; size <= std::min<size_t>(4, text.size()); ++size)
    if (protocol::is_utf8(text.substr(0, size))) return size;
  return 0;
}

bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (first == 0xC2) return static_cast<unsigned char>(character[1]) < 0xA0;
  return first < ' ' || first == 0x7F;
}

}  // namespace

std::string terminal_text(std::string_view text, std::string_view kept) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const size_t size = character_size(text);
    const std::string_view taken = text.substr(0, std::max<size_t>(size, 1));
    text.remove_prefix(taken.size());
    if (size > 0 && (!is_control(taken) || kept.find(taken) != std::string_view::npos)) {
      safe += taken;
      continue;
    }
    if (taken == "\n") {
      safe += "\\n";
      continue;
    }
    for (unsigned char byte : taken) safe += fmt::format("\\x{:02x}", byte);
  }
  return safe;
}

}  // namespace millrace
