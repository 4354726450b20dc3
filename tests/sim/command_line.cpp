#include "tests/sim/command_line.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <sstream>

namespace millrace::sim {
namespace {

template <typename Number>
bool read(const std::string& text, Number* number) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

bool read_list(const std::string& text, std::vector<size_t>* numbers) {
  if (text == "none") return true;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    size_t number = 0;
    if (!read(part, &number)) return false;
    numbers->push_back(number);
  }
  return !numbers->empty();
}

template <typename Number>
bool read(const std::string& text, std::optional<Number>* number) {
  return read(text, &number->emplace());
}

// A flag that takes a value.
bool set(Flags& flags, const std::string& name, const std::string& value) {
  Overrides& overrides = flags.overrides;
  if (name == "--seed") return read(value, &flags.seed);
  if (name == "--seconds") return read(value, &flags.seconds);
  if (name == "--runs") return read(value, &flags.runs) && *flags.runs > 0;
  if (name == "--list") return !(flags.list = value).empty();
  if (name == "--transcript") return !(flags.transcript = value).empty();
  if (name == "--producers") return read(value, &overrides.producers) && *overrides.producers > 0;
  if (name == "--workers") return read(value, &overrides.workers) && *overrides.workers > 0;
  if (name == "--rate") return read(value, &overrides.rate_factor);
  if (name == "--only") return read_list(value, &overrides.only.emplace());
  if (name == "--chaos-ms") {
    int64_t ms = 0;
    bool good = read(value, &ms) && ms > 0;
    overrides.chaos = ms * kMilli;
    return good;
  }
  if (name == "--without") {
    auto kind = parse_fault(value);
    if (kind) overrides.without.push_back(*kind);
    return kind.has_value();
  }
  if (name == "--mutate") {
    auto mutation = parse_mutation(value);
    if (mutation) flags.mutation = *mutation;
    return mutation.has_value();
  }
  return false;
}

bool set(Flags& flags, const std::string& name) {
  if (name == "--shrink") return flags.shrink = true;
  if (name == "--mutations") return flags.mutations = true;
  if (name == "--json") return flags.json = true;
  if (name == "--markdown") return flags.markdown = true;
  if (name == "--plain") return flags.overrides.plain = true;
  if (name == "--progress") return flags.progress = true;
  if (name == "--complete") return flags.complete = true;
  if (name == "--go-on") return flags.go_on = true;
  if (name == "--help") return flags.help = true;
  return false;
}

}  // namespace

std::optional<Flags> parse_flags(const std::string& line) {
  Flags flags;
  std::istringstream in(line);
  for (std::string name, value; in >> name;) {
    if (set(flags, name)) continue;
    if (in >> value && set(flags, name, value)) continue;
    fmt::print(stderr, "simulate: {} {} is no flag, or no value for it; see --help\n", name, value);
    return std::nullopt;
  }
  return flags;
}

std::string usage() {
  std::string out = R"(Usage: simulate --seed N [PLAN FLAGS]         one run
       simulate --seconds S [--seed FIRST]       fresh seeds for so long (or --runs N of them)
       simulate --list FILE                      seeds that once failed
       simulate --mutations [--seconds EACH]     every planted fault, until it is found

Runs producers, workers and a broker, all real code, over simulated network, disk and clocks, with
faults. A seed decides everything. docs/SIMULATION.md explains what is checked.

  --shrink          after a failure: look for a smaller run that fails in the same way
  --transcript FILE one run: all that happens in it
  --json            sums as one JSON object
  --progress        a line on stderr every 5 s
  --go-on           many runs: a failing one is one line on stderr, and the next one begins
  --markdown        the table of planted faults as in docs/SIMULATION.md
  --complete        many runs: something that never happened in any of them is a failure
Plan flags: --producers N, --workers N, --chaos-ms N, --rate FACTOR, --only FAULT,FAULT,… (numbers),
            --without KIND, --plain (no delays, TTLs, priorities, keys, operations), --mutate NAME
Kinds of faults:)";
  for (size_t i = 0; i < kFaultKinds; ++i) out += fmt::format(" {}", name_of(FaultKind(i)));
  out += "\nPlanted faults:\n";
  for (const MutationInfo& info : all_mutations())
    out += fmt::format("  {:<22} {}\n", info.name, info.what);
  return out + "Exit: 0; 1 an invariant was violated, or a planted fault not found; 64 usage.\n";
}

}  // namespace millrace::sim
