// What the gateway counts of itself, for /metrics.
// Units:   seconds and bytes in the names
// Threads: one, the HTTP server's
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "producer/runner/submission.h"

namespace millrace::producer {

class GatewayMetrics {
 public:
  // What is read at the moment of a scrape.
  struct Gauges {
    size_t brokers = 0;  // connected
    bool draining = false;
    size_t connections = 0, waiting = 0;
    uint64_t open_jobs = 0;
    std::optional<SpoolLevel> spool;
  };

  void responded(int status) { ++responses_[status]; }
  void answered(const Answer& answer, Mono::duration since_request);
  std::string text(const Gauges& gauges) const;

 private:
  static constexpr std::array<double, 12> kBuckets{.0005, .001, .002, .005, .01, .02,
                                                   .05,   .1,   .2,   .5,   1,   5};
  std::map<int, uint64_t> responses_;
  std::array<uint64_t, size_t(Answer::Kind::unknown) + 1> answers_{};
  std::array<uint64_t, kBuckets.size()> within_{};
  uint64_t confirms_ = 0;
  double confirm_seconds_ = 0;
};

}  // namespace millrace::producer
