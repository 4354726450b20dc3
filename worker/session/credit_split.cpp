#include "worker/session/credit_split.h"

#include <algorithm>
#include <numeric>

namespace millrace::worker {
namespace {

uint64_t demand_of(const Demand& demand) {
  if (!demand.connected) return 0;
  return demand.fills() ? demand.demand : std::min(demand.demand, 2 * demand.peak);
}

}  // namespace

std::vector<uint64_t> split_credit(uint64_t total, const std::vector<Demand>& demands) {
  std::vector<size_t> order(demands.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return demand_of(demands[a]) < demand_of(demands[b]);
  });
  std::vector<uint64_t> parts(demands.size());
  uint64_t left = total, connected = 0;
  // The smallest demands first: what they leave makes the others' parts larger.
  for (size_t i = 0; i < order.size(); ++i) {
    const Demand& demand = demands[order[i]];
    const uint64_t others = order.size() - i;
    parts[order[i]] = std::min(demand_of(demand), (left + others - 1) / others);
    left -= std::min(left / others, parts[order[i]]);  // rounded up alike for all who get the same
    connected += demand.connected;
  }
  for (size_t i = 0; i < demands.size(); ++i) {
    if (demands[i].connected) parts[i] += left / connected;
    parts[i] = std::max<uint64_t>(parts[i], 1);
  }
  return parts;
}

}  // namespace millrace::worker
