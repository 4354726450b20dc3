#include "tests/catch.h"
#include "worker/session/credit_split.h"

using namespace millrace::worker;

namespace {

using Parts = std::vector<uint64_t>;

Demand full(uint64_t part, uint64_t demand = 10'000) { return {true, part, part, demand}; }
Demand idle(uint64_t part) { return {true, part, 0, 10'000}; }
constexpr Demand kGone{};

}  // namespace

TEST_CASE("one broker has everything", "[split]") {
  CHECK(split_credit(5, {full(5)}) == Parts{5});
  CHECK(split_credit(5, {idle(5)}) == Parts{5});
}

TEST_CASE("brokers that all have jobs get the same", "[split]") {
  CHECK(split_credit(400, {full(300), full(1)}) == Parts{200, 200});
  CHECK(split_credit(5, {full(5), full(1)}) == Parts{3, 3});
  CHECK(split_credit(3, {full(3), full(1)}) == Parts{2, 2});
  CHECK(split_credit(9, {full(3), full(3), full(3)}) == Parts{3, 3, 3});
}

TEST_CASE("a broker without jobs leaves its part to the others, but for one job", "[split]") {
  CHECK(split_credit(5, {full(3), idle(3)}) == Parts{5, 1});
  CHECK(split_credit(400, {idle(200), full(150)}) == Parts{1, 400});
}

TEST_CASE("one that is gone takes nothing from the others", "[split]") {
  CHECK(split_credit(6, {kGone, full(2), full(2)}) == Parts{1, 3, 3});
  CHECK(split_credit(6, {kGone, idle(2)}) == Parts{1, 6});
}

TEST_CASE("a trickle keeps its room", "[split]") {
  const Demand trickle{true, 200, 10, 10'000};
  CHECK(split_credit(400, {full(200), trickle}) == Parts{380, 20});
}

TEST_CASE("what one can't use by the time that its jobs take is for the other", "[split]") {
  CHECK(split_credit(4096, {full(2048), full(5, 5)}) == Parts{4091, 5});
}

TEST_CASE("where nobody fills its part, all have room", "[split]") {
  CHECK(split_credit(100, {idle(1), idle(99)}) == Parts{50, 50});
}

TEST_CASE("nobody connected, nothing to divide", "[split]") {
  CHECK(split_credit(5, {kGone, kGone}) == Parts{1, 1});
}

TEST_CASE("a broker whose jobs come back gets its half within two looks", "[split]") {
  auto parts = split_credit(8, {full(8), idle(1)});
  CHECK(parts == Parts{8, 1});
  parts = split_credit(8, {full(parts[0]), full(parts[1])});
  CHECK(parts == Parts{4, 4});
}
