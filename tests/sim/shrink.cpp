// Makes a failing run smaller, greedily: each attempt takes one thing away, and stays if the run
// still fails in the same way.
#include <fmt/format.h>

#include <chrono>

#include "tests/sim/campaign.h"

namespace millrace::sim {
namespace {

class Shrinker {
 public:
  Shrinker(uint64_t seed, Overrides overrides, Mutation mutation, std::string invariant,
           double seconds)
      : seed_(seed),
        best_(std::move(overrides)),
        mutation_(mutation),
        invariant_(std::move(invariant)),
        deadline_(std::chrono::steady_clock::now() +
                  std::chrono::milliseconds(int64_t(seconds * 1000))) {}

  Overrides run() {
    for (bool changed = true; changed && in_time();) {
      changed = fewer_faults();
      changed = shorter() || changed;
      changed = fewer_processes() || changed;
      changed = less_load() || changed;
      changed = plain() || changed;
    }
    return best_;
  }

 private:
  bool in_time() const { return std::chrono::steady_clock::now() < deadline_; }

  bool take(const Overrides& smaller) {
    if (!in_time()) return false;
    Outcome outcome = run_seed(seed_, smaller, mutation_, false);
    if (!outcome.violation || outcome.violation->invariant != invariant_) return false;
    best_ = smaller;
    fmt::print(stderr, "simulate: smaller:{}\n", best_.flags());
    return true;
  }

  // First halves, then quarters, … then one by one.
  bool fewer_faults() {
    bool changed = false;
    std::vector<size_t> left;
    for (const Fault& fault : make_plan(seed_, best_).faults) left.push_back(fault.number);
    for (size_t part = left.size(); part > 0; part /= 2) {
      for (size_t at = 0; at < left.size();) {
        Overrides smaller = best_;
        smaller.only = left;
        size_t end = std::min(left.size(), at + part);
        smaller.only->erase(smaller.only->begin() + long(at), smaller.only->begin() + long(end));
        if (take(smaller)) {
          left = *smaller.only;
          changed = true;
        } else {
          at += part;
        }
      }
    }
    return changed;
  }

  bool shorter() {
    bool changed = false;
    for (int percent : {50, 75, 90}) {
      Overrides smaller = best_;
      smaller.chaos = make_plan(seed_, best_).chaos * percent / 100;
      if (*smaller.chaos < kSecond) break;
      while (take(smaller)) {
        changed = true;
        smaller.chaos = *smaller.chaos * percent / 100;
      }
    }
    return changed;
  }

  bool fewer_processes() {
    bool changed = false;
    for (auto field : {&Overrides::producers, &Overrides::workers}) {
      Plan plan = make_plan(seed_, best_);
      size_t now = field == &Overrides::producers ? plan.producers : plan.workers;
      for (size_t fewer = 1; fewer < now; ++fewer) {
        Overrides smaller = best_;
        smaller.*field = fewer;
        if (!take(smaller)) continue;
        changed = true;
        break;
      }
    }
    return changed;
  }

  bool less_load() {
    Overrides smaller = best_;
    smaller.rate_factor = best_.rate_factor.value_or(1.0) / 2;
    return *smaller.rate_factor > 0.01 && take(smaller);
  }

  bool plain() {
    Overrides smaller = best_;
    smaller.plain = true;
    return !best_.plain && take(smaller);
  }

  const uint64_t seed_;
  Overrides best_;
  const Mutation mutation_;
  const std::string invariant_;
  const std::chrono::steady_clock::time_point deadline_;
};

}  // namespace

Overrides shrink(uint64_t seed, Overrides overrides, Mutation mutation, const Violation& violation,
                 double seconds) {
  return Shrinker(seed, std::move(overrides), mutation, violation.invariant, seconds).run();
}

}  // namespace millrace::sim
