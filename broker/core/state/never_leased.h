// Ready jobs that nothing has happened to since they came, in runs: what a long backlog consists
// of, and how a snapshot tells of millions in a few bytes.
// Threads: immutable
#pragma once

#include <string>
#include <vector>

#include "broker/records/records.h"

namespace millrace::core {

struct NeverLeased {
  Uuid producer;  // zeros: forgotten
  std::string queue;
  protocol::Report report = protocol::Report::none;
  uint8_t max_attempts = 0;
  uint8_t priority = protocol::kDefaultPriority;
  std::vector<protocol::JobRange> runs;  // in the order of their ids
};

}  // namespace millrace::core
