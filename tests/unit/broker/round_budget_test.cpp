#include "broker/server/round_budget.h"

#include "tests/catch.h"

using namespace millrace;
using server::RoundBudget;

TEST_CASE("a round is over when its time is, whatever the units say", "[turns]") {
  const Mono begun{std::chrono::seconds(7)};
  RoundBudget budget(begun);
  budget.spend(1);  // a unit can take long: a huge frame, a table that grows
  CHECK_FALSE(budget.is_over(begun + RoundBudget::kTime - std::chrono::microseconds(1)));
  CHECK(budget.is_over(begun + RoundBudget::kTime));
}

TEST_CASE("a round is over when its work is, however fast it was", "[turns]") {
  const Mono begun{std::chrono::seconds(7)};
  RoundBudget budget(begun);
  budget.spend(RoundBudget::kWork - 1);
  CHECK_FALSE(budget.is_over(begun));
  budget.spend(UINT64_MAX);
  CHECK(budget.is_over(begun));
}

TEST_CASE("two ports together take no longer than a millisecond", "[turns]") {
  CHECK(2 * RoundBudget::kTime <= std::chrono::milliseconds(1));
}
