// What one producer of a load has done since somebody last looked, for the progress, the rows of
// --csv and the picture.
// Units:   latencies in microseconds
// Threads: internally locked: the producer's thread notes, another takes
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

#include "common/metrics/histogram.h"

namespace millrace::producer {

struct LoadInterval {
  uint64_t sent = 0;
  uint64_t confirmed = 0;
  uint64_t rejected = 0;
  uint64_t completed = 0;
  uint64_t failed = 0;  // ended in another way
  Histogram confirm_us;
  Histogram latency_us;

  uint64_t ended() const { return completed + failed; }
  void add(const LoadInterval& other);
};

class LoadMeter {
 public:
  template <typename Change>
  void note(Change change) {
    std::lock_guard lock(mutex_);
    change(interval_);
  }
  LoadInterval take() {
    LoadInterval fresh;
    std::lock_guard lock(mutex_);
    return std::exchange(interval_, std::move(fresh));
  }

 private:
  std::mutex mutex_;
  LoadInterval interval_;
};

}  // namespace millrace::producer
