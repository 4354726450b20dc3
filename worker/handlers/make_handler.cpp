#include <fmt/format.h>

#include "common/base/units.h"
#include "worker/handlers/exec_handler.h"
#include "worker/handlers/handler.h"
#include "worker/handlers/plugin_handler.h"
#include "worker/handlers/simple_handlers.h"
#include "worker/handlers/stream_handler.h"

namespace millrace::worker {
namespace {

using HandlerResult = Result<std::unique_ptr<Handler>>;

constexpr std::string_view kForms =
    "echo, sleep:DURATION[,PERCENT%:DURATION], burn:DURATION, fail:PERCENT, "
    "exec:COMMAND, stream:COMMAND, so:FILE";

// Far above any use, and below what overflows in nanoseconds.
constexpr Millis kLongest = std::chrono::hours(24);

Error bad_handler(std::string_view text, std::string_view why) {
  return {ExitCode::usage, fmt::format("handler '{}': {}; known are {}", text, why, kForms)};
}

Result<Millis> parse_time(std::string_view text, std::string_view argument) {
  auto duration = parse_duration(argument);
  if (!duration) return bad_handler(text, duration.error().message);
  if (*duration > kLongest) return bad_handler(text, "a job may take 24h at most");
  return duration;
}

HandlerResult make_burn(std::string_view text, std::string_view argument) {
  auto duration = parse_time(text, argument);
  if (!duration) return duration.error();
  return {std::make_unique<BurnHandler>(*duration)};
}

// A percentage with one decimal at most, in per mille.
Result<int64_t> parse_per_mille(std::string_view text) {
  const size_t point = text.find('.');
  auto whole = parse_integer(text.substr(0, point), 0, 100);
  if (!whole || point == std::string_view::npos)
    return whole ? Result<int64_t>(*whole * 10) : whole;
  auto tenths = parse_integer(text.substr(point + 1), 0, *whole < 100 ? 9 : 0);
  return tenths ? Result<int64_t>(*whole * 10 + *tenths) : tenths;
}

// DURATION[,PERCENT%:DURATION]
HandlerResult make_sleep(std::string_view text, std::string_view argument) {
  size_t comma = argument.find(',');
  auto duration = parse_time(text, argument.substr(0, comma));
  if (!duration) return duration.error();
  if (comma == std::string_view::npos) return {std::make_unique<SleepHandler>(*duration)};
  std::string_view slow = argument.substr(comma + 1);
  size_t sign = slow.find("%:");
  if (sign == std::string_view::npos)
    return bad_handler(text, "after the comma give a share and its duration: 1%:1s");
  auto share = parse_per_mille(slow.substr(0, sign));
  if (!share) return bad_handler(text, share.error().message);
  auto longer = parse_time(text, slow.substr(sign + 2));
  if (!longer) return longer.error();
  return {std::make_unique<SleepHandler>(*duration, *share, *longer)};
}

HandlerResult make_fail(std::string_view text, std::string_view argument) {
  auto percent = parse_integer(argument, 0, 100);
  if (!percent) return bad_handler(text, percent.error().message);
  return {std::make_unique<FailHandler>(*percent)};
}

template <typename Kind>
HandlerResult make_command(std::string_view command, Spawner& spawner,
                           const CommandLimits& limits) {
  if (auto started = spawner.start(); !started) return started.error();
  return {std::make_unique<Kind>(command, spawner, limits)};
}

}  // namespace

HandlerResult make_handler(std::string_view text, Spawner& spawner, const CommandLimits& limits) {
  size_t colon = text.find(':');
  std::string_view name = text.substr(0, colon);
  bool has_argument = colon != std::string_view::npos && colon + 1 < text.size();
  std::string_view argument = has_argument ? text.substr(colon + 1) : std::string_view();

  if (name == "echo") {
    if (colon != std::string_view::npos) return bad_handler(text, "echo takes no argument");
    return {std::make_unique<EchoHandler>()};
  }
  bool known = name == "sleep" || name == "burn" || name == "fail" || name == "exec" ||
               name == "stream" || name == "so";
  if (known && !has_argument) return bad_handler(text, fmt::format("{} needs an argument", name));
  if (name == "sleep") return make_sleep(text, argument);
  if (name == "burn") return make_burn(text, argument);
  if (name == "fail") return make_fail(text, argument);
  if (name == "exec") return make_command<ExecHandler>(argument, spawner, limits);
  if (name == "stream") return make_command<StreamHandler>(argument, spawner, limits);
  if (name == "so") return open_plugin(std::string(argument));
  return bad_handler(text, "there is no such handler");
}

}  // namespace millrace::worker
