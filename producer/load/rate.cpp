#include "producer/load/rate.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "common/base/units.h"

namespace millrace::producer {
namespace {

Error bad(std::string_view text, std::string_view why) {
  return {ExitCode::usage,
          fmt::format("'{}' is not a rate: {}; write max, 5000, a ramp 1000..5000, or steps "
                      "1000:10s,1000..5000:20s,5000:1m",
                      text, why)};
}

Result<Rate::Step> parse_step(std::string_view text) {
  Rate::Step step;
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    auto duration = parse_duration(text.substr(colon + 1), Millis(1));
    if (!duration) return duration.error();
    step.duration = *duration;
  }
  std::string_view rates = text.substr(0, colon);
  const size_t dots = rates.find("..");
  auto from = parse_integer(rates.substr(0, dots), 0, Rate::kMaxRate);
  if (!from) return from.error();
  auto to = dots == std::string_view::npos
                ? from
                : parse_integer(rates.substr(dots + 2), 0, Rate::kMaxRate);
  if (!to) return to.error();
  step.from = double(*from);
  step.to = double(*to);
  return step;
}

}  // namespace

Result<Rate> Rate::parse(std::string_view text) {
  Rate rate;
  if (text == "max") return rate;
  for (size_t start = 0; start <= text.size();) {
    const size_t comma = std::min(text.find(',', start), text.size());
    auto step = parse_step(text.substr(start, comma - start));
    if (!step) return bad(text, step.error().message);
    rate.steps.push_back(*step);
    start = comma + 1;
  }
  const bool all_timed = std::all_of(rate.steps.begin(), rate.steps.end(),
                                     [](const Step& step) { return step.duration.has_value(); });
  if (rate.steps.size() > 1 && !all_timed) return bad(text, "each of several steps needs its time");
  if (std::all_of(rate.steps.begin(), rate.steps.end(),
                  [](const Step& step) { return step.from == 0 && step.to == 0; }))
    return bad(text, "nothing would be sent");
  return rate;
}

}  // namespace millrace::producer
