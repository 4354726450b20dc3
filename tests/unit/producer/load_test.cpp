#include <set>

#include "common/base/base64.h"
#include "producer/load/payload.h"
#include "producer/load/report.h"
#include "producer/load/schedule.h"
#include "producer/submit/result_line.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);
using Micros = std::chrono::microseconds;

Rate rate(std::string_view text) {
  auto parsed = Rate::parse(text);
  REQUIRE(parsed);
  return *parsed;
}

Ended done(uint64_t seq, uint64_t count = 1) {
  return {{{seq}, count}, {7}, {seq}, JobState::done, 1, false, "", ""};
}

}  // namespace

TEST_CASE("a rate sets each submission its moment, whatever happens meanwhile", "[load]") {
  Schedule schedule({rate("1000"), 10, std::nullopt}, kStart);
  CHECK(schedule.due(kStart - Millis(1)) == 0);
  CHECK(schedule.due(kStart) == 1);
  CHECK(schedule.due(kStart + Micros(3500)) == 4);
  CHECK(schedule.due(kStart + Millis(1000)) == 10);
  CHECK(schedule.due_at(0) == kStart);
  CHECK(schedule.due_at(9) == kStart + Millis(9));
  CHECK(schedule.due_at(10) == Mono::max());
  CHECK_FALSE(schedule.over(kStart + Millis(1000), 9));
  CHECK(schedule.over(kStart, 10));
  std::vector<Mono> moments;
  schedule.for_each({3}, 2, [&](Mono at, uint64_t count) {
    CHECK(count == 1);
    moments.push_back(at);
  });
  CHECK(moments == std::vector<Mono>{kStart + Millis(2), kStart + Millis(3)});
}

TEST_CASE("a rate and a duration make a count", "[load]") {
  CHECK(Schedule({rate("5000"), std::nullopt, Millis(60'000)}, kStart).total() == 300'000u);
  CHECK(Schedule({rate("5000"), 100, Millis(60'000)}, kStart).total() == 100u);
  CHECK(Schedule({rate("max"), std::nullopt, Millis(10)}, kStart).total() == std::nullopt);
}

TEST_CASE("as fast as possible: all at once, until the count or the end of the duration",
          "[load]") {
  Schedule counted({rate("max"), 50, std::nullopt}, kStart);
  CHECK(counted.due(kStart) == 50);
  CHECK(counted.over(kStart, 50));
  Schedule timed({rate("max"), std::nullopt, Millis(10)}, kStart);
  CHECK(timed.due(kStart + Millis(9)) == UINT64_MAX);
  CHECK(timed.due(kStart + Millis(10)) == 0);
  CHECK_FALSE(timed.over(kStart + Millis(9), 1'000'000));
  CHECK(timed.over(kStart + Millis(10), 0));
}

TEST_CASE("without a rate a submission's moment is that of its burst", "[load]") {
  Schedule schedule({rate("max"), 50, std::nullopt}, kStart);
  schedule.burst({1}, kStart);
  schedule.burst({11}, kStart + Millis(5));
  std::vector<std::pair<Mono, uint64_t>> parts;
  schedule.for_each({6}, 20, [&](Mono at, uint64_t count) { parts.emplace_back(at, count); });
  CHECK(parts == std::vector<std::pair<Mono, uint64_t>>{{kStart, 5}, {kStart + Millis(5), 15}});
}

TEST_CASE("load's payloads have their size, differ, and can be made again", "[load]") {
  for (size_t size : {0, 1, 8, 16, 31, 32, 33, 256, 100'000}) {
    LoadPayload payload(0x123456789abcdef0, SizeMix::of(size));
    LoadPayload again(0x123456789abcdef0, SizeMix::of(size));
    std::set<std::string> seen;
    for (uint64_t seq = 1; seq <= 1000; ++seq) {
      std::string made(payload.of({seq}));
      CHECK(made.size() == size);
      seen.insert(made);
    }
    if (size >= 3) CHECK(seen.size() == 1000);
    CHECK(again.of({77}) == payload.of({77}));
  }
  LoadPayload other(2, SizeMix::of(256));
  CHECK(LoadPayload(1, SizeMix::of(256)).of({5}) != other.of({5}));
  CHECK(LoadPayload(0xab, SizeMix::of(32)).of({0xcd}) == "00000000000000ab00000000000000cd");
}

TEST_CASE("a report is good when every job was confirmed and done", "[load]") {
  Schedule schedule({rate("1000"), 10, std::nullopt}, kStart);
  Mono now = kStart + Millis(20);
  LoadReport report(
      schedule, [&] { return now; }, nullptr);
  report.confirmed({{{1}, 10}, {7}, {1}, false, "confirmed"});
  report.ended(done(1, 9));
  LoadReport::Totals totals{10, 0, 0, true};
  report.finish(totals);
  CHECK_FALSE(report.counts().good());
  report.ended(done(10));
  CHECK(report.counts().good());
  REQUIRE(report.jobs().size() == 1);
  CHECK(report.jobs()[0].broker == BrokerId{7});
  CHECK(report.jobs()[0].jobs == JobRange{{1}, 10});

  SECTION("not when the broker then says otherwise") {
    report.verifying();
    report.told({{1}, 9}, JobState::done);
    CHECK_FALSE(report.counts().good());
    report.told({{10}, 1}, JobState::unknown);
    CHECK(report.counts().lost() == 1);
    CHECK_FALSE(report.counts().good());
  }
  SECTION("and still when it says the same") {
    report.verifying();
    report.told({{1}, 10}, JobState::done);
    CHECK(report.counts().good());
  }
  SECTION("not when the broker contradicted itself") {
    report.contradicted({{1}, 1}, {1});
    CHECK_FALSE(report.counts().good());
  }
}

TEST_CASE("dead, lost, unknown and unbalanced runs are not good", "[load]") {
  Schedule schedule({rate("1000"), 2, std::nullopt}, kStart);
  LoadReport report(
      schedule, [] { return kStart; }, nullptr);
  report.confirmed({{{1}, 2}, {7}, {1}, false, "confirmed"});
  report.ended(done(1));
  SECTION("dead") {
    report.ended({{{2}, 1}, {7}, {2}, JobState::dead, 5, false, "", "boom"});
    report.finish({2, 0, 0, true});
    CHECK(report.counts().lost() == 0);
    CHECK_FALSE(report.counts().good());
  }
  SECTION("lost: the broker does not know it") {
    report.ended({{{2}, 1}, {7}, {2}, JobState::unknown, 0, false, "", ""});
    report.finish({2, 0, 0, true});
    CHECK(report.counts().lost() == 1);
    CHECK_FALSE(report.counts().good());
  }
  SECTION("no end came in time: not lost, but not good") {
    report.finish({2, 0, 1, true});
    CHECK(report.counts().lost() == 0);
    CHECK_FALSE(report.counts().good());
  }
  SECTION("rejected for good") {
    report.ended(done(2));
    report.rejected({{{3}, 1}, "too_large", Millis(0), ""});
    report.finish({3, 0, 0, true});
    CHECK_FALSE(report.counts().good());
  }
  SECTION("unknown") {
    report.ended(done(2));
    report.finish({3, 1, 0, true});
    CHECK_FALSE(report.counts().good());
  }
  SECTION("a submission without any account") {
    report.ended(done(2));
    report.finish({3, 0, 0, true});
    CHECK_FALSE(report.counts().good());
  }
  SECTION("without waiting, ends don't matter") {
    report.finish({2, 0, 0, false});
    CHECK(report.counts().good());
  }
}

TEST_CASE("results are compared with what was sent", "[load]") {
  Schedule schedule({rate("1000"), 2, std::nullopt}, kStart);
  LoadPayload payload(1, SizeMix::of(40)), compared(1, SizeMix::of(40));
  LoadReport report(
      schedule, [] { return kStart; }, &compared);
  report.confirmed({{{1}, 2}, {7}, {1}, false, "confirmed"});
  report.finish({2, 0, 0, true});
  Ended first = done(1), second = done(2);
  first.has_result = second.has_result = true;
  first.result = payload.of({1});
  report.ended(first);
  SECTION("the same") {
    second.result = payload.of({2});
    report.ended(second);
    CHECK(report.counts().good());
  }
  SECTION("of another") {
    second.result = payload.of({1});
    report.ended(second);
    CHECK_FALSE(report.counts().good());
  }
}

TEST_CASE("the line of an ended job", "[load]") {
  Ended ended{{{5}, 3}, {0x3f9a1c07}, {40}, JobState::done, 2, true, "caf\xc3\xa9 \"x\"\n", ""};
  CHECK(result_line(ended, 2) ==
        "{\"id\":\"3f9a1c07-42\",\"seq\":7,\"state\":\"done\",\"attempts\":2,"
        "\"result\":\"caf\xc3\xa9 \\\"x\\\"\\n\"}");
  ended.result = std::string_view("\xff\x00\x01", 3);
  CHECK(result_line(ended, 0) ==
        "{\"id\":\"3f9a1c07-40\",\"seq\":5,\"state\":\"done\",\"attempts\":2,\"result_base64\":\"/"
        "wAB\"}");
  ended.has_result = false;
  CHECK(result_line(ended, 0) ==
        "{\"id\":\"3f9a1c07-40\",\"seq\":5,\"state\":\"done\",\"attempts\":2}");
  ended.state = JobState::dead;
  ended.error = "exit 3 \xff";
  CHECK(result_line(ended, 0) ==
        "{\"id\":\"3f9a1c07-40\",\"seq\":5,\"state\":\"dead\",\"attempts\":2,"
        "\"error\":\"exit 3 \xef\xbf\xbd\"}");
  ended.state = JobState::unknown;
  ended.attempts = 0;
  CHECK(result_line(ended, 0) ==
        "{\"id\":\"3f9a1c07-40\",\"seq\":5,\"state\":\"lost\",\"attempts\":null}");
}

TEST_CASE("base64 as in RFC 4648", "[load]") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foobar") == "Zm9vYmFy");
}
