#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <limits>

#include "common/base/check.h"
#include "tests/sim/campaign.h"
#include "tests/sim/command_line.h"

// Instead of the library's, which aborts: here a broken invariant is a finding like any other.
void millrace::check_failed(const char* expression, const char* file, int line) {
  sim::World::fail(
      {"the code's own checks hold", fmt::format("{} at {}:{}", expression, file, line)});
}

using namespace millrace::sim;

namespace {

// Of few enough digits to be typed, and different in each run.
uint64_t from_clock() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) * 1000;
}

constexpr double kShrinkSeconds = 120;
constexpr double kEachMutation = 20;

int write_transcript(const Flags& flags) {
  Simulation simulation(make_plan(*flags.seed, flags.overrides), flags.mutation, true);
  Outcome outcome = simulation.run();
  std::ofstream file(flags.transcript);
  for (const World::Line& line : simulation.world().lines()) file << describe(line);
  if (outcome.violation)
    file << "violated: " << outcome.violation->invariant << ": " << outcome.violation->what << "\n";
  return outcome.violation || !file ? 1 : 0;
}

int run_one(const Flags& flags) {
  if (!flags.transcript.empty()) return write_transcript(flags);
  Outcome outcome = run_seed(*flags.seed, flags.overrides, flags.mutation, false);
  if (!outcome.violation) {
    fmt::print("{}all well: {} simulated seconds, {} events, trace {:016x}\n",
               describe(make_plan(*flags.seed, flags.overrides)), outcome.simulated / kSecond,
               outcome.events, outcome.trace_hash);
    return 0;
  }
  Overrides overrides = flags.overrides;
  if (flags.shrink) {
    overrides = shrink(*flags.seed, overrides, flags.mutation, *outcome.violation,
                       flags.seconds.value_or(kShrinkSeconds));
    outcome = run_seed(*flags.seed, overrides, flags.mutation, false);
  }
  print_failure(*flags.seed, overrides, flags.mutation, outcome);
  return 1;
}

int run(const Flags& flags) {
  if (flags.help) return fmt::print("{}", usage()), 0;
  if (flags.mutations)
    return run_mutations(flags.seconds.value_or(kEachMutation), flags.markdown) ? 0 : 1;
  if (!flags.list.empty()) return run_list(flags.list) ? 0 : 1;
  const bool many = flags.seconds || flags.runs;
  if (!many || flags.shrink) {
    if (flags.seed) return run_one(flags);
    fmt::print(stderr, "simulate: --seed N, --seconds S, --list FILE or --mutations; see --help\n");
    return 64;
  }
  Fresh fresh;
  fresh.first_seed = flags.seed.value_or(from_clock());
  fresh.seconds = flags.seconds.value_or(std::numeric_limits<double>::infinity());
  fresh.runs = flags.runs.value_or(fresh.runs);
  fresh.overrides = flags.overrides;
  fresh.mutation = flags.mutation;
  fresh.json = flags.json;
  fresh.progress = flags.progress;
  fresh.go_on = flags.go_on;
  fresh.complete = flags.complete;
  return run_fresh(fresh) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string line;
  for (int i = 1; i < argc; ++i) line += std::string(argv[i]) + " ";
  auto flags = parse_flags(line);
  return flags ? run(*flags) : 64;
}
