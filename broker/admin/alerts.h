// What needs an operator's attention, and what to do about it: one list for `status`, `top` and the
// dashboard.
// Shape:   a status → alerts, critical ones first
// Limits:  kMaxQueueAlerts about queues; one more sums up the others
// Threads: any
#pragma once

#include <string>
#include <vector>

#include "broker/admin/status.h"

namespace millrace::admin {

inline constexpr size_t kMaxQueueAlerts = 20;

struct Alert {
  bool critical = false;  // jobs are rejected, or not being worked on
  std::string subject;    // "journal", "queue orders"
  std::string problem;
  std::string remedy;
};

std::vector<Alert> alerts_of(const Status& status);

}  // namespace millrace::admin
