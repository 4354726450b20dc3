#include "worker/session/credit_split.h"

#include <algorithm>
#include <numeric>

namespace millrace::worker {
namespace {

uint64_t demand_of(const Draw& draw) {
  if (!draw.connected) return 0;
  return draw.fills() ? draw.wish : std::min(draw.wish, 2 * draw.peak);
}

}  // namespace

std::vector<uint64_t> split_credit(uint64_t total, const std::vector<Draw>& draws) {
  std::vector<size_t> order(draws.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return demand_of(draws[a]) < demand_of(draws[b]); });
  std::vector<uint64_t> parts(draws.size());
  uint64_t left = total, connected = 0;
  // The smallest demands first: what they leave makes the others' parts larger.
  for (size_t i = 0; i < order.size(); ++i) {
    const Draw& draw = draws[order[i]];
    const uint64_t others = order.size() - i;
    parts[order[i]] = std::min(demand_of(draw), (left + others - 1) / others);
    left -= std::min(left / others, parts[order[i]]);  // rounded up alike for all who get the same
    connected += draw.connected;
  }
  for (size_t i = 0; i < draws.size(); ++i) {
    if (draws[i].connected) parts[i] += left / connected;
    parts[i] = std::max<uint64_t>(parts[i], 1);
  }
  return parts;
}

}  // namespace millrace::worker
