// How many jobs the worker is willing to hold: enough that no thread waits for the network, not so
// many that long jobs stand here while other workers idle.
// Shape:   run times → mean → credit = threads × 20 ms / mean, within [threads + 1, kMaxCredit];
//          threads, as long as no job has ended: the first ones may be long
//          A new value counts only when it differs by more than a fifth from the one in force: a
//          CREDIT message for each jitter of the mean would be waste.
// Units:   nanoseconds of run time
// Limits:  20 ms covers the round trip to a broker that syncs each commit several times over
// Threads: one thread
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace millrace::worker {

class CreditPolicy {
 public:
  static constexpr uint64_t kMaxCredit = 4096;
  static constexpr std::chrono::nanoseconds kAhead = std::chrono::milliseconds(20);
  static constexpr double kMemory = 128;  // jobs that the mean looks back over

  // `fixed`: this many, whatever the jobs take.
  CreditPolicy(uint64_t threads, std::optional<uint64_t> fixed);

  void observe(std::chrono::nanoseconds run);
  // Another number of threads counts at once.
  void set_threads(uint64_t threads);
  // Moves the value in force to what the mean asks for; returns whether it changed.
  bool update();
  uint64_t credit() const { return credit_; }
  // For how long the threads have work with so many unfinished jobs; 0 as long as no job has ended.
  std::chrono::nanoseconds work_ahead(uint64_t unfinished) const;

 private:
  uint64_t wanted() const;

  uint64_t threads_;
  bool fixed_;
  uint64_t credit_;
  double mean_ns_ = 0;
  double seen_ = 0;
};

}  // namespace millrace::worker
