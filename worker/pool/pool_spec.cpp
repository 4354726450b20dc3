#include "worker/pool/pool_spec.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/units.h"
#include "worker/pool/usable_cpus.h"

namespace millrace::worker {
namespace {

using Kind = PoolSpec::Kind;
using SpecResult = Result<PoolSpec>;

constexpr size_t kLeastDefaultThreads = 4;

Error bad_pool(std::string_view text, std::string_view why) {
  return {ExitCode::usage,
          fmt::format("pool '{}': {}; there are single, per-job[:MAX], fixed[:N] and "
                      "auto[:MIN-MAX]",
                      text, why)};
}

SpecResult with_number(Kind kind, std::string_view text, std::string_view number, size_t most) {
  auto threads = parse_integer(number, 1, int64_t(most));
  if (!threads) return bad_pool(text, threads.error().message);
  return PoolSpec{kind, 1, size_t(*threads)};
}

SpecResult parse_range(std::string_view text, std::string_view range) {
  size_t dash = range.find('-');
  if (dash == std::string_view::npos) return bad_pool(text, "a range is written 2-64");
  auto min = parse_integer(range.substr(0, dash), 1, int64_t(kMaxThreads));
  if (!min) return bad_pool(text, min.error().message);
  auto max = parse_integer(range.substr(dash + 1), *min, int64_t(kMaxThreads));
  if (!max) return bad_pool(text, max.error().message);
  return PoolSpec{Kind::automatic, size_t(*min), size_t(*max)};
}

}  // namespace

size_t default_threads() { return std::max(usable_cpus().count(), kLeastDefaultThreads); }

SpecResult parse_pool(std::string_view text) {
  size_t colon = text.find(':');
  std::string_view name = text.substr(0, colon);
  bool has_argument = colon != std::string_view::npos;
  std::string_view argument = has_argument ? text.substr(colon + 1) : std::string_view();
  if (name == "single" && !has_argument) return PoolSpec{Kind::single, 1, 1};
  if (name == "per-job") {
    return has_argument ? with_number(Kind::per_job, text, argument, kMostPerJob)
                        : SpecResult(PoolSpec{Kind::per_job, 1, kMostPerJob});
  }
  if (name == "fixed") {
    return has_argument ? with_number(Kind::fixed, text, argument, kMaxThreads)
                        : SpecResult(PoolSpec{Kind::fixed, 1, default_threads()});
  }
  if (name == "auto") {
    return has_argument ? parse_range(text, argument)
                        : SpecResult(PoolSpec{Kind::automatic, 1, kAutoMax});
  }
  return bad_pool(text, name == "single" ? "single takes no number" : "there is no such pool");
}

std::string PoolSpec::text() const {
  switch (kind) {
    case Kind::single:
      return "single";
    case Kind::per_job:
      return max == kMostPerJob ? "per-job" : fmt::format("per-job:{}", max);
    case Kind::fixed:
      return fmt::format("fixed:{}", max);
    case Kind::automatic:
      return fmt::format("auto:{}-{}", min, max);
  }
  return {};
}

}  // namespace millrace::worker
