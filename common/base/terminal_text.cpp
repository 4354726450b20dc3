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

// Beyond ASCII's control characters: the code point of one that a terminal obeys, or 0.
uint32_t control_code(std::string_view text) {
  auto byte = [text](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  if (byte(0) == 0x7F) return 0x7F;
  if (byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) < 0xA0) return byte(1);
  if (byte(0) == 0xD8 && byte(1) == 0x9C) return 0x61C;
  if (byte(0) != 0xE2 || byte(1) < 0x80 || byte(1) > 0x81) return 0;
  const uint32_t code = 0x2000 + (byte(1) - 0x80) * 0x40 + (byte(2) & 0x3F);
  const bool is_mark = code == 0x200E || code == 0x200F;
  const bool is_override = code >= 0x2028 && code <= 0x202E;
  const bool is_isolate = code >= 0x2066 && code <= 0x2069;
  return is_mark || is_override || is_isolate ? code : 0;
}

bool is_control(std::string_view character) {
  return static_cast<unsigned char>(character[0]) < ' ' || control_code(character) != 0;
}

}  // namespace

std::string terminal_text(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const size_t size = character_size(text);
    const std::string_view taken = text.substr(0, std::max<size_t>(size, 1));
    text.remove_prefix(taken.size());
    if (size > 0 && !is_control(taken)) {
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

std::string terminal_json(std::string json) {
  constexpr std::string_view kFirstBytes = "\x7F\xC2\xD8\xE2";
  size_t at = json.find_first_of(kFirstBytes);
  if (at == std::string::npos) return json;
  std::string safe = json.substr(0, at);
  while (at < json.size()) {
    if (const uint32_t code = control_code(std::string_view(json).substr(at))) {
      safe += fmt::format("\\u{:04x}", code);
      at += code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    } else {
      safe += json[at++];
    }
    const size_t next = std::min(json.find_first_of(kFirstBytes, at), json.size());
    safe.append(json, at, next - at);
    at = next;
  }
  return safe;
}

}  // namespace millrace
