// What load prints at its end.
// Shape:   a table, or one JSON object with the keys that docs and scripts rely on
// Units:   milliseconds, seconds
// Threads: immutable
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "producer/load/report.h"

namespace millrace::producer {

struct LoadSummary {
  LoadCounts counts;  // of all producers
  uint64_t clients = 1;
  double seconds = 0;  // without the warm-up
  double submit_seconds = 0;
  double warm_up_seconds = 0;
  std::vector<std::pair<std::string, uint64_t>> queues;  // what was sent to each, of a mix

  // What passed in the measured time: done, or confirmed where nobody waits.
  double rate() const;
  std::string json() const;
  void print_text() const;
};

}  // namespace millrace::producer
