#include "common/os/descriptors.h"

#include <sys/resource.h>

#include "tests/catch.h"

using namespace millrace;

TEST_CASE("the soft limit of open files is raised to the hard one, and never lowered",
          "[descriptors]") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlim_t hard = std::min<rlim_t>(before.rlim_max, 4096);
  const rlimit low{hard / 2, hard};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  CHECK(raise_descriptor_limit() == hard);
  rlimit after{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &after) == 0);
  CHECK(after.rlim_cur == hard);
  CHECK(after.rlim_max == hard);
  CHECK(raise_descriptor_limit() == hard);
}

TEST_CASE("a budget divides all descriptors, and leaves each a part", "[descriptors]") {
  for (uint64_t limit : {kLeastDescriptors, uint64_t{100}, uint64_t{1024}, kMostDescriptors}) {
    const auto budget = DescriptorBudget::of(limit);
    CHECK(budget.reserve + budget.http + budget.connections == limit);
    CHECK(budget.reserve >= 32);
    CHECK(budget.http >= 8);
    CHECK(budget.connections >= 20);
  }
  CHECK(DescriptorBudget::of(1024).connections == 600);
  CHECK(DescriptorBudget::of(20'000).connections >= 16'384);
}
