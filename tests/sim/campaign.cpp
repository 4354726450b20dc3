#include "tests/sim/campaign.h"

#include <fmt/format.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "tests/sim/command_line.h"

namespace millrace::sim {
namespace {

using Real = std::chrono::steady_clock;

double since(Real::time_point begin) {
  return std::chrono::duration<double>(Real::now() - begin).count();
}

constexpr double kProgressEach = 5;
// What must happen in some run of --complete happens in one of 260 at least ("done late"): in so
// many it is missing with a chance of 1e-13. A slow machine makes a tenth of them in its time, so
// it goes on while something is missing.
constexpr uint64_t kRunsToBeComplete = 8000;

// Code that goes on for ever can't be seen from within: a run that takes so many seconds of real
// time is one. Its seed is said, and the process ends as by a signal.
constexpr unsigned kLongestRun = 60;
std::atomic<uint64_t> running_seed;

void too_long(int number) {
  char text[] = "simulate: a run does not end: simulate --seed 00000000000000000000\n";
  size_t at = sizeof text - 3;
  for (uint64_t seed = running_seed; seed > 0; seed /= 10) text[at--] = char('0' + seed % 10);
  [[maybe_unused]] auto written = write(STDERR_FILENO, text, sizeof text - 1);
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void print_sums(const Sums& sums, uint64_t first_seed, bool json) {
  const auto& t = sums.totals;
  double speed = double(sums.simulated) / 1e9 / std::max(sums.seconds, 1e-9);
  if (json) {
    fmt::print(
        "{{\"first_seed\": {}, \"runs\": {}, \"seconds\": {:.1f}, \"simulated_seconds\": {}, "
        "\"speed\": {:.0f}, "
        "\"events\": {}, \"submitted\": {}, \"confirmed\": {}, \"rejected\": {}, \"unknown\": {}, "
        "\"executed\": {}, \"failed_runs\": {}, \"coverage\": {}}}\n",
        first_seed, sums.runs, sums.seconds, sums.simulated / kSecond, speed, sums.events,
        t.submitted, t.confirmed, t.rejected, t.unknown, t.executed, sums.failed,
        sums.coverage.json());
    return;
  }
  fmt::print(
      "{} runs from seed {} in {:.1f} s: {} simulated seconds ({:.0f} a second), {} events, {} "
      "submissions "
      "({} confirmed, {} rejected, {} unknown), {} executions\n",
      sums.runs, first_seed, sums.seconds, sums.simulated / kSecond, speed, sums.events,
      t.submitted, t.confirmed, t.rejected, t.unknown, t.executed);
  fmt::print("{}", sums.coverage.table());
}

}  // namespace

void Sums::add(const Outcome& outcome) {
  ++runs;
  failed += outcome.violation.has_value();
  events += outcome.events;
  simulated += outcome.simulated;
  coverage.add(outcome.coverage);
  totals.submitted += outcome.totals.submitted;
  totals.confirmed += outcome.totals.confirmed;
  totals.rejected += outcome.totals.rejected;
  totals.unknown += outcome.totals.unknown;
  totals.executed += outcome.totals.executed;
}

Outcome run_seed(uint64_t seed, const Overrides& overrides, Mutation mutation, bool tracing) {
  auto simulation = std::make_unique<Simulation>(make_plan(seed, overrides), mutation, tracing);
  running_seed = seed;
  std::signal(SIGALRM, too_long);
  alarm(kLongestRun);
  Outcome outcome = simulation->run();
  alarm(0);
  return outcome;
}

void print_failure(uint64_t seed, const Overrides& overrides, Mutation mutation,
                   const Outcome& outcome) {
  const Violation& violation = *outcome.violation;
  // First, too: a transcript is longer than what ctest keeps of it.
  fmt::print(stderr, "simulate: seed {} violates: {}: {}\n", seed, violation.invariant,
             violation.what);
  Outcome traced = run_seed(seed, overrides, mutation, true);
  fmt::print("{}", describe(make_plan(seed, overrides)));
  fmt::print("{}\n", traced.transcript);
  fmt::print("violated at {:.6f} s: {}\n  {}\n", double(outcome.failed_at) / 1e9,
             violation.invariant, violation.what);
  if (traced.trace_hash != outcome.trace_hash)
    fmt::print("  AND the replay took another course: the simulator is at fault\n");
  std::string mutate =
      mutation == Mutation::none ? "" : fmt::format(" --mutate {}", name_of(mutation));
  fmt::print(
      "see it again: build/release/bin/simulate --seed {}{}{}\nmake it smaller: the same with "
      "--shrink\n",
      seed, mutate, overrides.flags());
  std::fflush(stdout);
}

bool run_fresh(const Fresh& what) {
  Sums sums;
  auto begin = Real::now();
  double reported = 0;
  fmt::print(stderr, "simulate: seeds from {}\n", what.first_seed);
  uint64_t seed = what.first_seed;
  auto is_over = [&] {
    if (sums.runs >= what.runs) return true;
    if (sums.seconds < what.seconds) return false;
    return !what.complete || sums.runs >= kRunsToBeComplete || sums.coverage.missing().empty();
  };
  for (; !is_over(); ++seed) {
    Outcome outcome = run_seed(seed, what.overrides, what.mutation, false);
    sums.add(outcome);
    sums.seconds = since(begin);
    if (outcome.violation && !what.go_on) {
      print_failure(seed, what.overrides, what.mutation, outcome);
      return false;
    }
    if (outcome.violation)
      fmt::print(stderr, "simulate: seed {} violates: {}: {}\n", seed, outcome.violation->invariant,
                 outcome.violation->what);
    if (!what.progress || sums.seconds - reported < kProgressEach) continue;
    reported = sums.seconds;
    fmt::print(stderr, "simulate: [{:.0f} s] {} runs, {} simulated seconds, seed {}\n",
               sums.seconds, sums.runs, sums.simulated / kSecond, seed);
  }
  print_sums(sums, what.first_seed, what.json);
  const std::string missing = what.complete ? sums.coverage.missing() : "";
  if (!missing.empty())
    fmt::print(stderr, "simulate: never happened in {} runs: {}\n", sums.runs, missing);
  return sums.failed == 0 && missing.empty();
}

bool run_list(const std::string& file) {
  std::ifstream in(file);
  if (!in) {
    fmt::print(stderr, "simulate: {} can't be read\n", file);
    return false;
  }
  bool good = true;
  size_t count = 0;
  for (std::string line; std::getline(in, line);) {
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(" \t") == line.npos) continue;
    auto parsed = parse_flags("--seed " + line);
    if (!parsed) {
      fmt::print(stderr, "simulate: {}: not understood: {}\n", file, line);
      return false;
    }
    ++count;
    Outcome outcome = run_seed(*parsed->seed, parsed->overrides, parsed->mutation, false);
    if (!outcome.violation) continue;
    print_failure(*parsed->seed, parsed->overrides, parsed->mutation, outcome);
    good = false;
  }
  fmt::print("{} seeds of {}{}\n", count, file, good ? ": all well" : "");
  return good;
}

bool run_mutations(double seconds_each, bool markdown) {
  bool good = true;
  if (markdown)
    fmt::print(
        "| planted fault | what it does | seeds | seconds | found as |\n| --- | --- | --- | --- | "
        "--- |\n");
  for (const MutationInfo& info : all_mutations()) {
    auto begin = Real::now();
    std::optional<Violation> found;
    uint64_t seed = 0;
    while (!found && since(begin) < seconds_each)
      found = run_seed(++seed, {}, info.mutation, false).violation;
    std::string as = found ? found->invariant : "NOT FOUND";
    if (markdown) {
      fmt::print("| `{}` | {} | {} | {:.1f} | {} |\n", info.name, info.what, seed, since(begin),
                 as);
    } else {
      fmt::print("{:<22} {:>4} seeds {:>6.1f} s  {}\n", info.name, seed, since(begin), as);
    }
    std::fflush(stdout);
    good = good && found;
  }
  return good;
}

}  // namespace millrace::sim
