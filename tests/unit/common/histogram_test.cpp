#include "common/metrics/histogram.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/catch.h"

using millrace::Histogram;

TEST_CASE("an empty histogram says 0", "[histogram]") {
  Histogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.quantile(0.5) == 0);
  CHECK(histogram.max() == 0);
}

TEST_CASE("small values are exact", "[histogram]") {
  Histogram histogram;
  for (uint64_t value = 1; value <= 100; ++value) histogram.record(value);
  CHECK(histogram.quantile(0.5) == 50);
  CHECK(histogram.quantile(0.9) == 90);
  CHECK(histogram.quantile(0.99) == 99);
  CHECK(histogram.quantile(0) == 1);
  CHECK(histogram.quantile(1) == 100);
}

TEST_CASE("a value counts as often as it was recorded", "[histogram]") {
  Histogram histogram;
  histogram.record(10, 999);
  histogram.record(1000);
  CHECK(histogram.count() == 1000);
  CHECK(histogram.quantile(0.999) == 10);
  CHECK(histogram.quantile(0.9991) == 1000);
}

TEST_CASE("percentiles are at most 1 % above the true ones, and never below", "[histogram]") {
  std::mt19937_64 random(42);
  std::lognormal_distribution<double> latency(8, 3);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 100'000; ++i) {
    values.push_back(uint64_t(latency(random)));
    histogram.record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (double fraction : {0.01, 0.5, 0.9, 0.99, 0.999, 0.9999}) {
    auto exact = values[size_t(std::ceil(fraction * double(values.size()))) - 1];
    CHECK(histogram.quantile(fraction) >= exact);
    CHECK(double(histogram.quantile(fraction)) <= double(exact) * 1.01);
  }
  CHECK(histogram.max() == values.back());
}

TEST_CASE("the ends of the range are counted", "[histogram]") {
  Histogram histogram;
  histogram.record(0);
  histogram.record(UINT64_MAX);
  CHECK(histogram.quantile(0.5) == 0);
  CHECK(histogram.quantile(1) == UINT64_MAX);
}

TEST_CASE("two histograms together are one of all their values", "[histogram]") {
  Histogram one, two, both;
  for (uint64_t value : {1, 7, 300, 1'000'000}) {
    one.record(value);
    both.record(value);
  }
  for (uint64_t value : {2, 7, 5'000'000}) {
    two.record(value, 3);
    both.record(value, 3);
  }
  one.add(two);
  CHECK(one.count() == both.count());
  CHECK(one.max() == both.max());
  for (double fraction : {0.0, 0.1, 0.5, 0.9, 1.0})
    CHECK(one.quantile(fraction) == both.quantile(fraction));
}
