#include "common/metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace millrace {
namespace {

constexpr int kPrecisionBits = 7;
constexpr size_t kPerPower = size_t{1} << kPrecisionBits;
constexpr size_t kBuckets = kPerPower * (64 - kPrecisionBits + 1);

// How many low bits of a value its bucket ignores.
int shift_of(uint64_t value) {
  return std::max(int(std::bit_width(value)) - kPrecisionBits - 1, 0);
}

size_t bucket_of(uint64_t value) {
  int shift = shift_of(value);
  return size_t(shift) * kPerPower + size_t(value >> shift);
}

uint64_t last_in(size_t bucket) {
  if (bucket < 2 * kPerPower) return bucket;
  auto shift = int(bucket / kPerPower) - 1;
  uint64_t top = bucket - size_t(shift) * kPerPower;
  return ((top + 1) << shift) - 1;
}

}  // namespace

Histogram::Histogram() : buckets_(kBuckets) {}

void Histogram::record(uint64_t value, uint64_t times) {
  buckets_[bucket_of(value)] += times;
  count_ += times;
  max_ = std::max(max_, value);
}

void Histogram::add(const Histogram& other) {
  if (other.count_ == 0) return;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket)
    buckets_[bucket] += other.buckets_[bucket];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

uint64_t Histogram::quantile(double fraction) const {
  auto rank = uint64_t(std::ceil(std::clamp(fraction, 0.0, 1.0) * double(count_)));
  rank = std::clamp<uint64_t>(rank, 1, std::max<uint64_t>(count_, 1));
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) return std::min(last_in(bucket), max_);
  }
  return 0;
}

}  // namespace millrace
