// A screen of text, without a terminal: lines of spans with a meaning each.
// Units:   columns are characters
// Threads: any
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::top {

enum class Style { normal, faint, bold, bar, selected, warning, critical };

struct Span {
  std::string text;
  Style style = Style::normal;
};
using Line = std::vector<Span>;

struct Size {
  size_t rows = 24, columns = 80;
};

struct Key {
  enum Kind { character, up, down, page_up, page_down, home, end, tab, enter, escape, backspace };
  Kind kind = character;
  char value = 0;  // of a character
};

// Characters, not bytes, of UTF-8.
size_t width_of(std::string_view text);
// Exactly so wide: padded, or cut with a '~' at its end.
std::string fit(std::string_view text, size_t width);
std::string fit_right(std::string_view text, size_t width);

// 1234567 → 1,234,567, or 1.2M where that is wider than `width`.
std::string short_number(double number, size_t width);
// The text of a screen, a line each; for tests, and where there is no style.
std::string plain(const std::vector<Line>& screen);

}  // namespace millrace::top
