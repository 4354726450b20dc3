// What all parts of the core share: the settings, the durable state, the time of this call, and the
// one way in which durable state changes.
// Shape:   emit(record) applies it to the state and appends it to the output
// Owns:    the state; outlives the parts, which refer to it
// Threads: one
#pragma once

#include <memory>
#include <random>

#include "broker/core/session/output.h"
#include "broker/core/session/settings.h"

namespace millrace::core {

// Since this process began; for people, not durable.
struct Tally {
  uint64_t known = 0, rejected = 0, stale = 0, returned = 0, errors = 0;
};

struct Context {
  Context(const Settings& settings, uint64_t seed);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Views in the record hold as long as its owner, or else as the frame that was received.
  void emit(Record record, Output& out, std::shared_ptr<const void> owner = nullptr);
  // Likewise, of a record that does not lengthen the history.
  void put(Record record, Output& out, std::shared_ptr<const void> owner = nullptr);

  const Settings settings;
  State state;
  std::mt19937_64 random;
  Now now{};
  bool draining = false;  // no new jobs, no new leases
  Tally tally;
  uint64_t work = 0;  // in jobs looked at, about 0.1 us each
};

}  // namespace millrace::core
