#include <fmt/format.h>

#include "common/units.h"
#include "worker/handlers/exec_handler.h"
#include "worker/handlers/handler.h"
#include "worker/handlers/simple_handlers.h"

namespace millrace::worker {
namespace {

using HandlerResult = Result<std::unique_ptr<Handler>>;

constexpr std::string_view kForms =
    "echo, sleep:DURATION, burn:DURATION, fail:PERCENT, exec:COMMAND";

// Far above any use, and below what overflows in nanoseconds.
constexpr Millis kLongest = std::chrono::hours(24);

Error bad_handler(std::string_view text, std::string_view why) {
  return {ExitCode::usage, fmt::format("handler '{}': {}; known are {}", text, why, kForms)};
}

template <typename Timed>
HandlerResult make_timed(std::string_view text, std::string_view argument) {
  auto duration = parse_duration(argument);
  if (!duration) return bad_handler(text, duration.error().message);
  if (*duration > kLongest) return bad_handler(text, "a job may take 24h at most");
  return {std::make_unique<Timed>(*duration)};
}

HandlerResult make_fail(std::string_view text, std::string_view argument) {
  auto percent = parse_integer(argument, 0, 100);
  if (!percent) return bad_handler(text, percent.error().message);
  return {std::make_unique<FailHandler>(*percent)};
}

}  // namespace

HandlerResult make_handler(std::string_view text) {
  size_t colon = text.find(':');
  std::string_view name = text.substr(0, colon);
  bool has_argument = colon != std::string_view::npos && colon + 1 < text.size();
  std::string_view argument = has_argument ? text.substr(colon + 1) : std::string_view();

  if (name == "echo") {
    if (colon != std::string_view::npos) return bad_handler(text, "echo takes no argument");
    return {std::make_unique<EchoHandler>()};
  }
  bool known = name == "sleep" || name == "burn" || name == "fail" || name == "exec";
  if (known && !has_argument) return bad_handler(text, fmt::format("{} needs an argument", name));
  if (name == "sleep") return make_timed<SleepHandler>(text, argument);
  if (name == "burn") return make_timed<BurnHandler>(text, argument);
  if (name == "fail") return make_fail(text, argument);
  if (name == "exec") return {std::make_unique<ExecHandler>(std::string(argument))};
  if (name == "stream" || name == "so")
    return bad_handler(text, fmt::format("this version has no {}: handlers yet", name));
  return bad_handler(text, "there is no such handler");
}

}  // namespace millrace::worker
