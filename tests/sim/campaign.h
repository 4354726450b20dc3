// Many runs: fresh seeds for a time, a list of seeds that once failed, every planted fault.
// Units:   seconds of real time
// Errors:  the first failing run ends a campaign: it is run again with its transcript, and printed
// Threads: one
#pragma once

#include <string>
#include <vector>

#include "tests/sim/simulation.h"

namespace millrace::sim {

struct Sums {
  uint64_t runs = 0, failed = 0, events = 0;
  Nanos simulated = 0;
  double seconds = 0;  // real
  Coverage coverage;
  Oracle::Totals totals;
  void add(const Outcome& outcome);
};

Outcome run_seed(uint64_t seed, const Overrides& overrides, Mutation mutation, bool tracing);
// Prints what was violated, how, and how to see it again.
void print_failure(uint64_t seed, const Overrides& overrides, Mutation mutation,
                   const Outcome& outcome);

struct Fresh {
  uint64_t first_seed = 0;
  double seconds = 0;
  uint64_t runs = UINT64_MAX;  // whichever is over first
  Overrides overrides;
  Mutation mutation = Mutation::none;
  bool json = false;
  bool progress = false;  // a line on stderr every few seconds
  bool complete = false;  // everything must have happened
  bool go_on = false;     // after a failure, of which only a line is printed
};
// False when a run failed.
bool run_fresh(const Fresh& what);
bool run_list(const std::string& file);
// Each planted fault until it is found; false when one is not within the seconds given for it.
bool run_mutations(double seconds_each, bool markdown);

// Takes away from a failing run what it does not need: processes, time, faults, load.
Overrides shrink(uint64_t seed, Overrides overrides, Mutation mutation, const Violation& violation,
                 double seconds);

}  // namespace millrace::sim
