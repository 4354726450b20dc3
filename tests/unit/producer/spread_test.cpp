#include <map>
#include <string>

#include "producer/session/spread.h"
#include "tests/catch.h"

using namespace millrace::producer;

namespace {

using Brokers = std::vector<Spread::Broker>;

Brokers three() { return {{11, true, true, 0}, {22, true, true, 0}, {33, true, true, 0}}; }

std::string key_of(int i) { return "order-" + std::to_string(i); }

}  // namespace

TEST_CASE("a key has one home, in whatever order the brokers are named", "[spread]") {
  Brokers there = three(), back = {there[2], there[0], there[1]};
  Spread spread, other;
  for (int i = 0; i < 1000; ++i) {
    auto home = spread.pick(there, key_of(i));
    auto again = other.pick(back, key_of(i));
    REQUIRE(home);
    REQUIRE(again);
    REQUIRE(there[*home].id == back[*again].id);
    spread.took(*home);
  }
}

TEST_CASE("keys are spread evenly", "[spread]") {
  std::map<size_t, int> count;
  Spread spread;
  for (int i = 0; i < 30'000; ++i) ++count[*spread.pick(three(), key_of(i))];
  for (size_t i = 0; i < 3; ++i) {
    CHECK(count[i] > 9'500);
    CHECK(count[i] < 10'500);
  }
}

TEST_CASE("a broker that goes moves its own keys only", "[spread]") {
  Brokers all = three(), two = three();
  two[1].up = false;
  Spread spread;
  int moved = 0;
  for (int i = 0; i < 1000; ++i) {
    const size_t before = *spread.pick(all, key_of(i)), after = *spread.pick(two, key_of(i));
    if (before == 1) {
      CHECK(after != 1);
      ++moved;
    } else {
      CHECK(after == before);
    }
  }
  CHECK(moved > 250);
}

TEST_CASE("a key waits for a home that is up and has no room", "[spread]") {
  Brokers full = three();
  Spread spread;
  const size_t home = *spread.pick(full, "order-1");
  full[home].room = false;
  CHECK_FALSE(spread.pick(full, "order-1"));
  full[home].up = false;
  CHECK(spread.pick(full, "order-1"));
}

TEST_CASE("without a key the least loaded takes it, of equals each in turn", "[spread]") {
  Brokers brokers = three();
  brokers[0].load = 5;
  brokers[1].load = 3;
  brokers[2].load = 4;
  Spread spread;
  CHECK(spread.pick(brokers, "") == 1);

  std::map<size_t, int> count;
  for (int i = 0; i < 30; ++i) {
    const size_t to = *spread.pick(three(), "");
    spread.took(to);
    spread.new_turn();
    ++count[to];
  }
  for (size_t i = 0; i < 3; ++i) CHECK(count[i] == 10);
}

TEST_CASE("what comes together goes together, up to a full message", "[spread]") {
  Brokers brokers = three();
  Spread spread;
  const size_t first = *spread.pick(brokers, "");
  for (uint64_t i = 0; i < Spread::kRun; ++i) {
    REQUIRE(spread.pick(brokers, "") == first);
    spread.took(first);
    ++brokers[first].load;
  }
  CHECK(spread.pick(brokers, "") != first);
}

TEST_CASE("a turn ends when its broker goes or has no room", "[spread]") {
  Brokers brokers = three();
  Spread spread;
  const size_t first = *spread.pick(brokers, "");
  spread.took(first);
  brokers[first].room = false;
  CHECK(spread.pick(brokers, "") != first);
  for (auto& broker : brokers) broker.up = false;
  CHECK_FALSE(spread.pick(brokers, ""));
}
