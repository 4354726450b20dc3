#include "broker/top/screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/base/grouped.h"

namespace millrace::top {
namespace {

// The first characters of a text.
std::string_view first(std::string_view text, size_t characters) {
  size_t end = 0;
  for (; end < text.size(); ++end)
    if ((text[end] & 0xc0) != 0x80 && characters-- == 0) break;
  return text.substr(0, end);
}

}  // namespace

size_t width_of(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string fit(std::string_view text, size_t width) {
  const size_t own = width_of(text);
  if (own <= width) return std::string(text) + std::string(width - own, ' ');
  return width == 0 ? "" : std::string(first(text, width - 1)) + "~";
}

std::string fit_right(std::string_view text, size_t width) {
  const size_t own = width_of(text);
  return own <= width ? std::string(width - own, ' ') + std::string(text) : fit(text, width);
}

std::string short_number(double number, size_t width) {
  if (number > 0 && number < 9.95) {
    const std::string exact = fmt::format("{:.1f}", number);
    return exact.ends_with(".0") ? exact.substr(0, exact.size() - 2) : exact;
  }
  const std::string whole = grouped(static_cast<uint64_t>(std::llround(number)));
  if (whole.size() <= width) return whole;
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t unit = 0;
  while (number >= 999.5 && unit + 1 < std::size(kUnits)) number /= 1000, ++unit;
  return fmt::format("{:.{}f}{}", number, number < 9.95 ? 1 : 0, kUnits[unit]);
}

std::string plain(const std::vector<Line>& screen) {
  std::string out;
  for (const Line& line : screen) {
    std::string text;
    for (const Span& span : line) text += span.text;
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

}  // namespace millrace::top
