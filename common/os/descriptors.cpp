#include "common/os/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace millrace {
namespace {

// A broker has 3 standard streams, 2 of the data directory, 2 segments that are written, 32 that
// are read back (PlaceReader, which does with fewer), and 20 events, listeners and timers.
constexpr uint64_t kOwn = 64;
// libzmq accepts connections faster than they can be closed again.
constexpr uint64_t kBurstShare = 8;  // one in so many
constexpr uint64_t kHttpShare = 4;
constexpr uint64_t kMostHttp = 512;

}  // namespace

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeastDescriptors;
  const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kMostDescriptors);
  if (limit.rlim_cur < wanted) {
    const rlimit raised{wanted, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

DescriptorBudget DescriptorBudget::of(uint64_t limit) {
  const uint64_t own = std::min(kOwn, limit / 2);
  const uint64_t left = limit - own;
  DescriptorBudget budget;
  budget.http = std::min(left / kHttpShare, kMostHttp);
  const uint64_t burst = left / kBurstShare;
  budget.connections = left - budget.http - burst;
  budget.reserve = own + burst;
  return budget;
}

}  // namespace millrace
