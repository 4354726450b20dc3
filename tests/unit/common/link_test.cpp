#include "common/net/link.h"

#include <set>
#include <vector>

#include "tests/catch.h"

using namespace millrace;
using Step = Link::Step;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);
constexpr Link::Timing kTiming{};

// A link that was opened and welcomed at the start.
Link connected_link() {
  Link link(7, kTiming);
  REQUIRE(link.next(kStart) == Step::open);
  link.sent(kStart);
  link.welcomed(kStart, Millis(1000), 3);
  return link;
}

// Whenever it asks for it until `end`; what it said last.
Step run_until(Link& link, Mono end) {
  Step last = Step::none;
  while (link.wake_at() <= end)
    if (const Step step = link.next(std::max(link.wake_at(), kStart)); step != Step::none)
      last = step;
  return last;
}

// From the close to the next open.
Mono::duration backoff_of(Link& link, Mono now) {
  REQUIRE(link.next(now) == Step::close);
  REQUIRE(link.next(now) == Step::none);
  Mono open_at = link.wake_at();
  CHECK(link.next(open_at - std::chrono::nanoseconds(1)) == Step::none);
  CHECK(link.next(open_at) == Step::open);
  return open_at - now;
}

}  // namespace

TEST_CASE("a link opens at once, and once", "[link]") {
  Link link(1, kTiming);
  CHECK(link.wake_at() <= kStart);
  CHECK(link.next(kStart) == Step::open);
  CHECK(link.session().value != 0);
  CHECK(link.attempts() == 1);
  CHECK_FALSE(link.connected());
  CHECK(link.next(kStart) == Step::none);
}

TEST_CASE("a heartbeat of the broker is answered at once, and once", "[link]") {
  Link link = connected_link();
  REQUIRE(link.next(kStart + Millis(100)) == Step::none);
  link.asked();
  CHECK(link.wake_at() <= kStart + Millis(100));
  SECTION("by a heartbeat") {
    CHECK(link.next(kStart + Millis(100)) == Step::heartbeat);
    CHECK(link.next(kStart + Millis(100)) == Step::none);
    CHECK(link.wake_at() == kStart + Millis(1100));
  }
  SECTION("by anything else that is sent") {
    link.sent(kStart + Millis(100));
    CHECK(link.next(kStart + Millis(100)) == Step::none);
  }
  SECTION("but not by the next session") {
    link.lost(kStart + Millis(100));
    REQUIRE(link.next(kStart + Millis(100)) == Step::close);
    REQUIRE(link.next(kStart + Millis(1000)) == Step::open);
    link.welcomed(kStart + Millis(1000), Millis(1000), 3);
    CHECK(link.next(kStart + Millis(1000)) == Step::none);
  }
}

TEST_CASE("a heartbeat goes out when nothing else was sent for its time", "[link]") {
  Link link = connected_link();
  CHECK(link.connected());
  CHECK(link.wake_at() == kStart + Millis(1000));
  CHECK(link.next(kStart + Millis(999)) == Step::none);
  CHECK(link.next(kStart + Millis(1000)) == Step::heartbeat);
  CHECK(link.next(kStart + Millis(1000)) == Step::none);

  link.sent(kStart + Millis(1500));
  CHECK(link.next(kStart + Millis(2400)) == Step::none);
  CHECK(link.next(kStart + Millis(2500)) == Step::heartbeat);
}

TEST_CASE("the broker's heartbeat and liveness are obeyed", "[link]") {
  Link link = connected_link();
  link.welcomed(kStart, Millis(200), 5);
  CHECK(link.next(kStart + Millis(200)) == Step::heartbeat);
  CHECK(run_until(link, kStart + Millis(999)) == Step::heartbeat);
  CHECK(link.next(kStart + Millis(1000)) == Step::close);
}

TEST_CASE("the broker waits from the last thing that was said on", "[link]") {
  Link link = connected_link();
  link.welcomed(kStart, Millis(200), 5);
  link.sent(kStart + Millis(50));
  CHECK(link.gone_at(kStart + Millis(400)) == kStart + Millis(1050));
  link.lost(kStart + Millis(400));
  // Nobody is there to wait; the next thing that the link does comes long before.
  CHECK(link.gone_at(kStart + Millis(400)) > link.wake_at() + Millis(1000));
}

TEST_CASE("settings that no broker can mean don't make a link spin", "[link]") {
  Link link = connected_link();
  link.welcomed(kStart, Millis(0), 0);
  CHECK(link.wake_at() > kStart);
  CHECK(link.next(kStart) == Step::none);
  link.welcomed(kStart, Millis::max(), UINT64_MAX);
  CHECK(link.wake_at() > kStart);
  CHECK(link.next(kStart) == Step::none);
}

TEST_CASE("silence for heartbeat times liveness is a loss, anything received is not", "[link]") {
  Link link = connected_link();
  CHECK(run_until(link, kStart + Millis(2999)) == Step::heartbeat);
  link.received(kStart + Millis(2999));
  CHECK(run_until(link, kStart + Millis(5998)) == Step::heartbeat);
  CHECK(link.next(kStart + Millis(5999)) == Step::close);
  CHECK_FALSE(link.connected());
}

TEST_CASE("time for which the caller did not run is not the broker's silence", "[link]") {
  Link link = connected_link();
  CHECK(link.next(kStart) == Step::none);
  CHECK(link.next(kStart + Millis(10'000)) == Step::heartbeat);  // due at 1,000
  SECTION("what the broker sent meanwhile is read next") {
    link.received(kStart + Millis(10'001));
    CHECK(run_until(link, kStart + Millis(13'000)) == Step::heartbeat);
    CHECK(link.connected());
  }
  SECTION("a broker that says nothing then is lost") {
    CHECK(run_until(link, kStart + Millis(11'999)) == Step::heartbeat);
    CHECK(link.next(kStart + Millis(12'000)) == Step::close);
  }
}

TEST_CASE("an attempt that nobody welcomes is lost", "[link]") {
  Link link(1, kTiming);
  CHECK(link.next(kStart) == Step::open);
  CHECK(link.wake_at() == kStart + Millis(3000));
  CHECK(link.next(kStart + Millis(2999)) == Step::none);
  CHECK(link.next(kStart + Millis(3000)) == Step::close);
}

TEST_CASE("each open has a session of its own", "[link]") {
  Link link(1, kTiming);
  std::set<uint64_t> sessions;
  Mono now = kStart;
  for (int i = 0; i < 100; ++i) {
    now = std::max(now, link.wake_at());
    REQUIRE(link.next(now) == Step::open);
    sessions.insert(link.session().value);
    link.lost(now);
    REQUIRE(link.next(now) == Step::close);
  }
  CHECK(sessions.size() == 100);
  CHECK(link.attempts() == 100);
}

TEST_CASE(
    "the backoff doubles to its maximum, within the jitter, and a broker that stays resets "
    "it",
    "[link]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Link link(seed, kTiming);
    Mono now = kStart;
    REQUIRE(link.next(now) == Step::open);
    for (int expected_ms : {100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
      link.lost(now);
      auto waited = backoff_of(link, now);
      CHECK(waited >= Millis(expected_ms) / 2);
      CHECK(waited <= Millis(expected_ms) * 3 / 2);
      now += waited;
    }
    link.welcomed(now, Millis(1000), 3);
    link.received(now += Link::kProvenAfter);
    link.lost(now);
    CHECK(backoff_of(link, now) <= Millis(150));
  }
}

TEST_CASE("a broker that is lost as soon as it has welcomed is asked less and less", "[link]") {
  Link link(7, kTiming);
  Mono now = kStart;
  while (link.attempts() < 20) {
    if (link.next(now) == Step::open) {
      link.welcomed(now, Millis(0), 1);
      link.received(now + Millis(5));
    }
    now = std::max(now, link.wake_at());
  }
  CHECK(now - kStart > Millis(5000) * 10);
}

TEST_CASE("the jitter differs between clients", "[link]") {
  std::set<Mono::duration> waits;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Link link(seed, kTiming);
    REQUIRE(link.next(kStart) == Step::open);
    link.lost(kStart);
    waits.insert(backoff_of(link, kStart));
  }
  CHECK(waits.size() > 10);
}

TEST_CASE("a loss that is reported twice closes once", "[link]") {
  Link link = connected_link();
  link.lost(kStart);
  link.lost(kStart);
  CHECK(link.wake_at() <= kStart);
  CHECK(link.next(kStart) == Step::close);
  CHECK(link.next(kStart) == Step::none);
}

TEST_CASE("a welcome to a session that was given up is ignored", "[link]") {
  Link link = connected_link();
  link.lost(kStart);
  link.welcomed(kStart, Millis(1000), 3);
  CHECK_FALSE(link.connected());
  CHECK(link.next(kStart) == Step::close);
}
