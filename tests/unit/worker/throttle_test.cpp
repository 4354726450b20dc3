#include "worker/session/throttle.h"

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::worker;
using namespace std::chrono_literals;
using Kind = Completion::Kind;

namespace {

class Ends {
 public:
  // The same end so many times, one after the other.
  void end(Kind kind, int times = 1, std::chrono::nanoseconds run = 1ms, uint64_t held = 0) {
    for (int i = 0; i < times; ++i) {
      std::vector<Finished> ends;
      ends.push_back({{{1}, {1}}, {kind, "why"}, run});
      changes += throttle.observe(ends, held, now);
    }
  }
  void advance(Millis time) {
    now += time;
    changes += throttle.tick(now);
  }

  Throttle throttle{20};
  Mono now = Mono() + 1h;
  int changes = 0;
};

using State = Throttle::State;

}  // namespace

TEST_CASE("failures of many jobs in a row let one job at a time in", "[throttle]") {
  Ends it;
  it.end(Kind::retryable, 19);
  CHECK(it.throttle.limit() == Throttle::kNoLimit);
  it.end(Kind::crash);
  CHECK(it.throttle.state() == State::failing);
  CHECK(it.throttle.limit() == 0);
  CHECK(it.throttle.why() == "why");
  it.end(Kind::retryable, 30);  // that ran already
  CHECK(it.throttle.pause() == Throttle::kFirstBreak);
  it.advance(Throttle::kFirstBreak);
  CHECK(it.throttle.limit() == 1);
  it.end(Kind::done);
  CHECK(it.throttle.limit() == Throttle::kNoLimit);
  CHECK(it.changes == 2);
}

TEST_CASE("each vain attempt makes the pause longer, up to a bound", "[throttle]") {
  Ends it;
  it.end(Kind::retryable, 20);
  Millis total{0};
  for (int i = 0; i < 10; ++i) {
    total += it.throttle.pause();
    CHECK(it.throttle.wake_at() == it.now + it.throttle.pause());
    it.advance(it.throttle.pause());
    it.end(Kind::retryable);
    CHECK(it.throttle.limit() == 0);
  }
  CHECK(total == 1s + 2s + 4s + 8s + 16s + 5 * 30s);
  CHECK(it.changes == 1);
}

TEST_CASE("a vain attempt is one however long it takes", "[throttle]") {
  Ends it;
  it.end(Kind::retryable, 20);
  it.advance(Throttle::kFirstBreak);
  it.end(Kind::retryable, 1, 5s);
  CHECK(it.throttle.state() == State::failing);
  CHECK(it.throttle.pause() == 2 * Throttle::kFirstBreak);
}

TEST_CASE("jobs that show a working handler are no reason to stop", "[throttle]") {
  Ends it;
  for (auto [kind, run] :
       {std::pair{Kind::done, 1ms}, {Kind::permanent, 1ms}, {Kind::retryable, 1000ms}}) {
    for (int i = 0; i < 10; ++i) {
      it.end(Kind::retryable, 19);
      it.end(kind, 1, run);
    }
  }
  CHECK(it.throttle.state() == State::none);
  Throttle never(0);
  std::vector<Finished> ends;
  for (int i = 0; i < 1000; ++i) ends.push_back({{{1}, {1}}, {Kind::retryable, "why"}, 1ms});
  CHECK_FALSE(never.observe(ends, 0, it.now));
}

TEST_CASE("a host that is short of something holds what it can run", "[throttle]") {
  Ends it;
  it.end(Kind::released, 5, 0ms, 11);
  CHECK(it.throttle.state() == State::short_of_something);
  CHECK(it.throttle.limit() == 11);
  it.advance(Throttle::kFirstShortage);
  CHECK(it.throttle.limit() == 22);
  it.end(Kind::released, 11, 0ms, 11);
  CHECK(it.throttle.limit() == 11);
  CHECK(it.throttle.pause() == 2 * Throttle::kFirstShortage);
  CHECK(it.changes == 1);
}

TEST_CASE("a host that can run nothing tries one job now and then, and recovers", "[throttle]") {
  Ends it;
  it.end(Kind::released);
  CHECK(it.throttle.limit() == 0);
  for (int i = 0; i < 10; ++i) {
    it.advance(it.throttle.pause());
    CHECK(it.throttle.limit() == 1);
    it.end(Kind::released);
    CHECK(it.throttle.limit() == 0);
  }
  CHECK(it.throttle.pause() == Throttle::kLongestShortage);
  Millis quiet{0};
  for (; it.throttle.state() != State::none; quiet += Throttle::kLongestShortage) {
    it.advance(it.throttle.pause());
    it.end(Kind::done, 3);
  }
  CHECK(quiet == Throttle::kQuiet);
  CHECK(it.throttle.limit() == Throttle::kNoLimit);
  CHECK(it.throttle.wake_at() == Mono::max());
  CHECK(it.changes == 2);
}

TEST_CASE("a shortage of the worker itself counts as one of the host", "[throttle]") {
  Ends it;
  CHECK(it.throttle.note_shortage("no memory", 3, it.now));
  CHECK(it.throttle.state() == State::short_of_something);
  CHECK(it.throttle.limit() == 3);
  CHECK(it.throttle.why() == "no memory");
  CHECK_FALSE(it.throttle.note_shortage("no memory", 1, it.now));
  CHECK(it.throttle.limit() == 1);
}
