#include "worker/session/gathering.h"

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;

namespace {

constexpr Mono kNow{1h};

std::optional<Mono> next_after(const std::vector<Completion::Kind>& kinds,
                               std::chrono::nanoseconds work_ahead) {
  std::vector<Finished> ends;
  for (Completion::Kind kind : kinds) ends.push_back({{}, {kind, {}}, 1ms});
  Gathering gathering;
  gathering.collected(ends);
  gathering.delivered(work_ahead, kNow);
  return gathering.collect_at();
}

}  // namespace

TEST_CASE("completions are gathered while the threads have work", "[gathering]") {
  using enum Completion::Kind;
  CHECK(next_after({done}, Gathering::kWorkAhead) == kNow + Gathering::kGather);
  CHECK(next_after({done, done, done}, 1s) == kNow + Gathering::kGather);
  CHECK(Gathering::kGather < Gathering::kWorkAhead);
}

TEST_CASE("the last completions before the threads idle are collected as they come",
          "[gathering]") {
  using enum Completion::Kind;
  CHECK_FALSE(next_after({done}, 0ns));
  CHECK_FALSE(next_after({done}, Gathering::kWorkAhead - 1ns));
}

TEST_CASE("a failure ends the gathering", "[gathering]") {
  using enum Completion::Kind;
  for (Completion::Kind kind : {retryable, permanent, crash, released})
    CHECK_FALSE(next_after({done, kind}, 1s));
}

TEST_CASE("a window is over once its completions are collected", "[gathering]") {
  Gathering gathering;
  gathering.collected({});
  gathering.delivered(1s, kNow);
  REQUIRE(gathering.collect_at());
  SECTION("none had come") { gathering.collected({}); }
  SECTION("a drain begins") { gathering.end(); }
  CHECK_FALSE(gathering.collect_at());
}
