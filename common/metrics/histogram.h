// Counts values into buckets whose width grows with the value, so that percentiles of any number of
// latencies cost a fixed 60 KB and are never more than 1 % too high.
// Shape:   128 buckets for each power of two: values below 256 exactly, above within 1/128
// Units:   whatever the caller counts; here microseconds
// Limits:  every uint64_t
// Threads: one thread
// Source:  the idea is HdrHistogram's; this is the part of it that one process needs
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace {

class Histogram {
 public:
  Histogram();

  void record(uint64_t value, uint64_t times = 1);
  void add(const Histogram& other);
  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  // The least recorded value that `fraction` of all don't exceed, rounded up to its bucket's end;
  // 0 when nothing was recorded.
  uint64_t quantile(double fraction) const;

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace millrace
