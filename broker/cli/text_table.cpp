#include "broker/cli/text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "common/base/terminal_text.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::json;

// Characters, not bytes, of UTF-8.
size_t width_of(std::string_view cell) {
  return static_cast<size_t>(
      std::count_if(cell.begin(), cell.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string text(const Json& object, const char* key) {
  std::string line = object.at(key).get<std::string>();
  std::replace(line.begin(), line.end(), '\n', ' ');
  return terminal_text(line);
}

std::string count(const Json& object, const char* key) {
  return grouped(object.at(key).get<uint64_t>());
}

std::string bytes(const Json& object, const char* key) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(object.at(key).get<uint64_t>());
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) value /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string span(uint64_t ms) {
  uint64_t s = ms / 1000;
  if (s < 60) return fmt::format("{}.{} s", s, ms % 1000 / 100);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
  return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
}

std::string table(std::vector<Row> rows) {
  std::vector<size_t> widths(rows[0].size());
  std::vector<bool> right(rows[0].size());
  for (size_t i = 0; i < widths.size(); ++i) {
    right[i] = rows[0][i].starts_with('>');
    if (right[i]) rows[0][i].erase(0, 1);
    for (const Row& row : rows) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string gap(widths[i] - width_of(row[i]), ' ');
      line += right[i] ? gap + row[i] : row[i] + gap;
      line += "  ";
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

}  // namespace millrace::admin
