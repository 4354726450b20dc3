// What the simulator can be told; lines of a list of seeds are read in the same way.
#pragma once

#include <optional>
#include <string>

#include "tests/sim/mutations.h"
#include "tests/sim/plan.h"

namespace millrace::sim {

struct Flags {
  std::optional<uint64_t> seed;  // this run, or the first of many
  Overrides overrides;
  Mutation mutation = Mutation::none;
  std::optional<double> seconds;
  std::optional<uint64_t> runs;
  std::string list;
  std::string transcript;  // a file for all of it
  bool shrink = false;
  bool mutations = false;
  bool json = false;
  bool markdown = false;
  bool progress = false;
  bool go_on = false;
  bool complete = false;
  bool help = false;
};

// Nothing when a flag is unknown or has a bad value; the reason is on stderr.
std::optional<Flags> parse_flags(const std::string& line);
std::string usage();

}  // namespace millrace::sim
