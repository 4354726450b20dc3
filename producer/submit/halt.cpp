#include "producer/submit/halt.h"

#include <fmt/format.h>

#include <optional>

#include "common/base/units.h"

namespace millrace::producer {
namespace {

std::optional<Halt::When> when_of(std::string_view word) {
  if (word == "soon") return Halt::When::soon;
  if (word == "now") return Halt::When::now;
  return std::nullopt;
}

std::optional<Halt::Why> why_of(std::string_view word) {
  if (word == "fail") return Halt::Why::fail;
  if (word == "success") return Halt::Why::success;
  if (word == "done") return Halt::Why::done;
  return std::nullopt;
}

}  // namespace

Result<Halt> Halt::parse(std::string_view text) {
  if (text == "never") return Halt{};
  Error bad{ExitCode::usage,
            fmt::format("'{}' is not a condition; write never, soon,fail=3, now,fail=1 or "
                        "soon,fail=10% (also success= and done=)",
                        text)};
  const size_t comma = text.find(','), equals = text.find('=');
  if (comma == std::string_view::npos || equals == std::string_view::npos || equals < comma)
    return bad;
  auto when = when_of(text.substr(0, comma));
  auto why = why_of(text.substr(comma + 1, equals - comma - 1));
  std::string_view limit = text.substr(equals + 1);
  const bool percent = limit.ends_with('%');
  if (percent) limit.remove_suffix(1);
  auto number = parse_integer(limit, 1, percent ? 100 : INT64_MAX);
  if (!when || !why || !number) return bad;
  return Halt{*when, *why, uint64_t(*number), percent};
}

bool Halt::reached(uint64_t done, uint64_t failed) const {
  if (when == When::never) return false;
  const uint64_t ended = done + failed;
  const uint64_t counted = why == Why::fail ? failed : why == Why::success ? done : ended;
  if (!percent) return counted >= limit;
  return ended >= kLeastForPercent && double(counted) * 100 >= double(limit) * double(ended);
}

}  // namespace millrace::producer
