// Any text as a value of a flag, an environment variable, a file or a query: a value within its
// bounds, which its own text gives again, or a usage error.
#include "common/base/units.h"

#include "common/base/check.h"
#include "tests/fuzz/target.h"

using namespace millrace;

namespace {

template <typename T>
bool is_fine(const Result<T>& parsed) {
  MILLRACE_CHECK(parsed.ok() ||
                 (parsed.error().code == ExitCode::usage && !parsed.error().message.empty()));
  return parsed.ok();
}

void check_endpoints(std::string_view text) {
  constexpr int kPort = 5570;
  if (auto one = parse_endpoint(text); is_fine(one)) {
    auto back = parse_endpoint(one->authority());
    MILLRACE_CHECK(back.ok() && *back == *one && *parse_endpoint(one->uri()) == *one);
  }
  is_fine(parse_endpoint(text, kPort));
  auto several = parse_endpoints(text, kPort);
  if (!is_fine(several)) return;
  std::string joined;
  for (const Endpoint& endpoint : *several) {
    MILLRACE_CHECK(endpoint.port != 0);
    joined += (joined.empty() ? "" : ",") + endpoint.authority();
  }
  auto back = parse_endpoints(joined, kNoDefaultPort);
  MILLRACE_CHECK(back.ok() && *back == *several);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::view_of(data, size);
  if (auto duration = parse_duration(text); is_fine(duration)) {
    MILLRACE_CHECK(*duration >= Millis(0));
    MILLRACE_CHECK(*parse_duration(format_duration(*duration)) == *duration);
  }
  if (auto at_least = parse_duration(text, Millis(5)); is_fine(at_least))
    MILLRACE_CHECK(*at_least >= Millis(5));
  if (auto range = parse_duration_range(text); is_fine(range))
    MILLRACE_CHECK(Millis(0) <= range->min && range->min <= range->max);
  if (auto bytes = parse_size(text, 10, 1 << 20); is_fine(bytes))
    MILLRACE_CHECK(*bytes >= 10 && *bytes <= 1 << 20);
  is_fine(parse_size(text));
  if (auto number = parse_integer(text, -7, INT64_MAX); is_fine(number))
    MILLRACE_CHECK(*number >= -7);
  is_fine(parse_bool(text));
  check_endpoints(text);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"250ms",
          "1h",
          "500ms..5m",
          "9223372036854775807ms",
          "64KiB",
          "8388607TiB",
          "-7",
          "true",
          "tcp://127.0.0.1:5570",
          "[::1]:5570",
          "broker.example",
          "tcp://*:65535",
          "10.0.0.1:5570,10.0.0.2,[fe80::1%eth0]:1"};
}
