#include "common/base/base64.h"

#include <algorithm>
#include <cstdint>

namespace millrace {

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    size_t here = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < here ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += k <= here ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

bool parse_base64(std::string_view text, std::string* bytes) {
  auto value = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  bytes->clear();
  for (size_t i = 0; i < text.size() && text.size() % 4 == 0; i += 4) {
    uint32_t bits = 0;
    size_t here = 0;
    for (; here < 4 && value(text[i + here]) >= 0; ++here)
      bits |= uint32_t(value(text[i + here])) << (18 - 6 * here);
    for (size_t k = 0; k + 1 < here; ++k) *bytes += char(bits >> (16 - 8 * k) & 0xff);
    if (here < 4) break;
  }
  return base64(*bytes) == text;  // the only form there is
}

}  // namespace millrace
