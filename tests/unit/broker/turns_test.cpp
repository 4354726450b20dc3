#include "broker/server/turns.h"

#include <map>

#include "tests/catch.h"

using namespace millrace::server;

namespace {

constexpr TurnLimits kWide{1000, 1 << 20, 10000, 1 << 24};

}  // namespace

TEST_CASE("peers get equal work, whatever their frames cost", "[turns]") {
  Turns<uint64_t> turns(kWide);  // a frame is its cost
  for (int i = 0; i < 900; ++i) {
    REQUIRE(turns.push(1, 1, 10));
    REQUIRE(turns.push(2, 10, 10));
    REQUIRE(turns.push(3, 100, 10));
  }
  std::map<uint64_t, uint64_t> work;
  for (uint64_t spent = 0; spent < 2000;) {
    auto next = turns.take();
    REQUIRE(next);
    work[next->peer] += next->frame;
    spent += next->frame;
    turns.charge(next->frame);
  }
  for (auto [peer, done] : work) {
    CHECK(done >= 560);
    CHECK(done <= 760);
  }
}

TEST_CASE("who comes is served next, behind whatever flood", "[turns]") {
  Turns<int> turns(kWide);
  for (int i = 0; i < 900; ++i)
    for (uint64_t peer = 1; peer <= 5; ++peer) REQUIRE(turns.push(peer, i, 10));
  for (int i = 0; i < 100; ++i) {
    REQUIRE(turns.take());
    turns.charge(4096);
  }
  REQUIRE(turns.push(9, 0, 10));
  size_t before = 0;
  for (; turns.take()->peer != 9; ++before) turns.charge(4096);
  CHECK(before <= 5);  // those that have been charged no more than the one served last
}

TEST_CASE("a peer's frames keep their order, and idleness saves nothing up", "[turns]") {
  Turns<int> turns(kWide);
  REQUIRE(turns.push(1, 0, 1));  // then idle for long
  REQUIRE(turns.take());
  turns.charge(1);
  for (int i = 0; i < 500; ++i) {
    REQUIRE(turns.push(2, i, 1));
    REQUIRE(turns.take()->frame == i);
    turns.charge(1000);
  }
  for (int i = 0; i < 50; ++i) {
    REQUIRE(turns.push(1, i, 1));
    REQUIRE(turns.push(2, i, 1));
  }
  int of_first = 0;
  std::map<uint64_t, int> expected;
  for (int i = 0; i < 20; ++i) {
    auto next = turns.take();
    REQUIRE(next->frame == expected[next->peer]++);
    of_first += next->peer == 1;
    turns.charge(1000);
  }
  CHECK(of_first >= 9);
  CHECK(of_first <= 11);
}

TEST_CASE("a single busy peer is served without end, and owes nothing afterwards", "[turns]") {
  Turns<int> turns(kWide);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(turns.push(1, i, 1));
    REQUIRE(turns.take());
    turns.charge(1 << 20);
  }
  REQUIRE(turns.push(2, 0, 1));
  REQUIRE(turns.push(1, 0, 1));
  int of_first = 0;
  for (int i = 0; i < 2; ++i) of_first += turns.take()->peer == 1, turns.charge(1);
  CHECK(of_first == 1);
}

TEST_CASE("a peer beyond its limit is refused, all together stop the reading", "[turns]") {
  Turns<int> turns({3, 100, 5, 1000});
  CHECK(turns.push(1, 0, 60));
  CHECK_FALSE(turns.push(1, 0, 60));
  CHECK(turns.push(1, 0, 40));
  CHECK(turns.push(2, 0, 1));
  CHECK(turns.push(2, 0, 1));
  CHECK_FALSE(turns.is_full());
  CHECK(turns.push(2, 0, 1));
  CHECK_FALSE(turns.push(2, 0, 1));
  CHECK(turns.is_full());
  turns.drop(2);
  CHECK_FALSE(turns.is_full());
  CHECK(turns.bytes() == 100);
  CHECK(turns.take()->peer == 1);
  turns.charge(1);
  CHECK(turns.take()->peer == 1);
  turns.drop(1);  // while its frame is handled
  turns.charge(1);
  CHECK(turns.empty());
  CHECK_FALSE(turns.take());
}

TEST_CASE("peers that came and went are forgotten", "[turns]") {
  Turns<int> turns(kWide);
  for (uint64_t peer = 0; peer < 100000; ++peer) {
    REQUIRE(turns.push(peer, 0, 1));
    REQUIRE(turns.take());
    turns.charge(100);
  }
  CHECK(turns.known_peers() < 4096);
}
