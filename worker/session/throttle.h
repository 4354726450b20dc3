// How many jobs a executor may hold while something is wrong with it or its host, so that what is
// wrong costs as few jobs as possible.
// Shape:   ends of jobs → limit() on held jobs
//          short of something (a job was released unstarted): no more than what runs; then twice as
//          many after each pause. A pause is kFirstShortage, and doubles to kLongestShortage with each
//          shortage; it is over when there was none for kQuiet.
//          failing (as many failures in a row as the settings say, each within kMoment): none for a
//          pause of kFirstBreak, then one job. If it fails too, however long it ran, the pause doubles, to
//          kLongestBreak; any other end lets all in again.
// Units:   monotonic time, passed in
// Limits:  queues that share a executor are throttled together: one that succeeds shows that the host is
//          well, so the others go on failing
// Threads: one thread
// Source:  M. T. Nygard, "Release It!", 2007: circuit breaker. Shortage: as TCP's slow start, since
//          what others leave free is found by trying
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "worker/job/job.h"

namespace millrace::worker {

class Throttle {
 public:
  static constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
  static constexpr Millis kMoment{1000};
  static constexpr Millis kFirstShortage{100}, kLongestShortage{5000}, kQuiet{10'000};
  static constexpr Millis kFirstBreak{1000}, kLongestBreak{30'000};

  enum class State { none, short_of_something, failing };

  // After so many failures in a row; 0: never.
  explicit Throttle(uint64_t failures) : failures_(failures) {}

  // `held`: jobs that run besides these. Returns whether something has begun or ended.
  bool observe(const std::vector<Finished>& ends, uint64_t held, Mono now);
  // This worker itself is short of something; the rest as observe() has it.
  bool note_shortage(std::string why, uint64_t held, Mono now);
  // When wake_at() has come. Returns as observe() does.
  bool tick(Mono now);
  Mono wake_at() const { return wake_at_; }

  uint64_t limit() const { return limit_; }
  State state() const { return state_; }
  Millis pause() const { return pause_; }
  // The last of the errors that it is about.
  const std::string& why() const { return why_; }

 private:
  void on_shortage(std::string why, uint64_t held, Mono now);
  void on_failure(const Finished& end, Mono now);
  void on_success();
  void reset();

  const uint64_t failures_;
  State state_ = State::none;
  uint64_t limit_ = kNoLimit;
  bool raised_ = false;  // since the last shortage
  uint64_t in_a_row_ = 0;
  Millis pause_{0};
  Mono wake_at_ = Mono::max();
  Mono last_shortage_{};
  std::string why_;
};

}  // namespace millrace::worker
