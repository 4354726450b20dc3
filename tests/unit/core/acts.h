// What tests about the core's semantics do again and again.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "tests/unit/core/harness.h"

namespace millrace::test {

inline const std::vector<std::pair<Port, uint64_t>> kAlive{{Port::frontend, 1}, {Port::backend, 2}};

inline protocol::SubmitOptions delayed(Millis delay) {
  protocol::SubmitOptions options;
  options.delay = delay;
  return options;
}

// Leases one job after the other, and tells their order.
inline std::vector<uint64_t> order_of(Harness& h, Worker& w, size_t count) {
  std::vector<uint64_t> order;
  while (order.size() < count) {
    h.clear();
    h.dispatch();
    auto leases = granted(h);
    REQUIRE(leases.size() == 1);
    order.push_back(leases[0].job.value);
    w.done(leases);
  }
  return order;
}

template <typename Action>
void act(Harness& h, Action&& action) {
  Output out;
  action(h.core(), out);
  h.absorb(out);
}

inline records::QueueSettings settings_with(auto change) {
  records::QueueSettings settings;
  change(settings);
  return settings;
}

inline void set_queue(Harness& h, const records::QueueSettings& settings,
                      std::string_view queue = "q") {
  act(h, [&](Core& core, Output& out) { core.set_queue(h.now, queue, settings, out); });
}

}  // namespace millrace::test
