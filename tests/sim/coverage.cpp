#include "tests/sim/coverage.h"

#include <fmt/format.h>

#include <vector>

#include "tests/sim/describe.h"
#include "tests/sim/plan.h"

namespace millrace::sim {
namespace {

template <typename Variant, size_t... I>
std::vector<std::string> names_of(std::index_sequence<I...>) {
  auto first_word = [](std::string text) { return text.substr(0, text.find(' ')); };
  return {first_word(describe(Variant(std::in_place_index<I>)))...};
}

template <typename Variant>
const std::vector<std::string>& names_of() {
  static const auto names =
      names_of<Variant>(std::make_index_sequence<std::variant_size_v<Variant>>());
  return names;
}

struct Expected {
  std::string_view group;
  std::vector<std::string_view> names;
};

// Beside every kind of fault, message and record.
const std::vector<Expected>& expected() {
  static const std::vector<Expected> all = {
      {"submissions",
       {"with a delay", "due after years", "with a TTL", "with a priority", "with a key",
        "with max attempts", "too large", "report none", "report outcome", "report result",
        "sent again"}},
      {"confirms", {"new", "known"}},
      {"rejects", {"draining", "disk_full", "queue_full", "memory_full", "quota"}},
      {"queue settings",
       {"weight", "fair order", "paused", "concurrency", "rate", "max length", "max attempts",
        "backoff", "lease", "TTL"}},
      {"people", {"set", "reset", "cancel", "purge", "revive", "drop", "why", "several slices"}},
      {"ends of attempts",
       {"done", "done late", "failed, to be retried", "failed for good", "crashed by its handler",
        "released", "lost", "expired", "never arrived"}},
      {"ends of jobs", {"done", "dead", "cancelled", "purged", "dropped", "expired"}},
      {"processes",
       {"broker starts", "clean stops", "worker starts", "workers killed by a job",
        "producer starts", "goodbyes"}},
      {"takeovers", {"of a silent session", "refused or waiting"}},
      {"starts", {"by replay", "from a snapshot"}},
      {"high-water marks", {"--max-queued", "--max-memory", "disk full", "disk no longer full"}},
      {"queue shares", {"compared"}},
      {"disk",
       {"syncs", "failed syncs", "power cuts", "sectors lost", "unsynced sectors kept", "ENOSPC",
        "EIO", "segments retired", "jobs relocated while full", "reads"}},
      {"network",
       {"connections", "frames", "frames lost", "frames doubled", "frames after their successor's",
        "sends refused"}},
  };
  return all;
}

}  // namespace

std::string_view kind_of(const protocol::FromClient& message) {
  return names_of<protocol::FromClient>()[message.index()];
}
std::string_view kind_of(const protocol::FromBroker& message) {
  return names_of<protocol::FromBroker>()[message.index()];
}
std::string_view kind_of(const records::Record& record) {
  return names_of<records::Record>()[record.index()];
}

namespace {

constexpr std::string_view kAttempts = "ends of attempts", kJobs = "ends of jobs";

uint64_t count_of(const std::vector<protocol::JobRange>& runs) {
  uint64_t jobs = 0;
  for (const auto& run : runs) jobs += run.count;
  return jobs;
}

}  // namespace

void count_record(Coverage& coverage, const records::Record& record) {
  coverage.count("records", kind_of(record));
  if (auto* done = std::get_if<records::Done>(&record)) {
    for (const auto& run : done->runs)
      coverage.count(kAttempts, "done", run.count), coverage.count(kJobs, "done", run.count);
  } else if (auto* failed = std::get_if<records::Failed>(&record)) {
    constexpr std::string_view kKinds[] = {"failed, to be retried", "failed for good",
                                           "crashed by its handler"};
    coverage.count(kAttempts, kKinds[size_t(failed->kind)]);
    if (failed->due == WallMs{}) coverage.count(kJobs, "dead");
  } else if (auto* returned = std::get_if<records::Returned>(&record)) {
    constexpr std::string_view kReasons[] = {"released", "lost", "expired", "never arrived"};
    coverage.count(kAttempts, kReasons[size_t(returned->reason)], returned->jobs.size());
    for (const auto& entry : returned->jobs)
      if (entry.dead) coverage.count(kJobs, "dead");
  } else if (auto* cancelled = std::get_if<records::Cancelled>(&record)) {
    constexpr std::string_view kReasons[] = {"cancelled", "purged", "dropped"};
    coverage.count(kJobs, kReasons[size_t(cancelled->reason)], count_of(cancelled->runs));
  } else if (auto* expired = std::get_if<records::Expired>(&record)) {
    coverage.count(kJobs, "expired", count_of(expired->runs));
  }
}

std::map<Coverage::Key, uint64_t> Coverage::with_zeros() const {
  auto all = counters_;
  for (const Expected& row : expected())
    for (std::string_view name : row.names) all[{row.group, name}];
  for (size_t i = 0; i < kFaultKinds; ++i) all[{"faults", name_of(FaultKind(i))}];
  // An ERROR is what no correct client gets.
  for (const std::string& name : names_of<protocol::FromClient>())
    all[{"said to the broker", name}];
  for (const std::string& name : names_of<protocol::FromBroker>())
    if (name != "ERROR") all[{"said by the broker", name}];
  for (const std::string& name : names_of<records::Record>()) all[{"records", name}];
  return all;
}

std::string Coverage::table() const {
  std::string out;
  std::string_view group;
  for (const auto& [key, times] : with_zeros()) {
    if (key.first != group) out += fmt::format("{}\n", group = key.first);
    out += fmt::format("  {:<32} {:>12}\n", key.second, times);
  }
  return out;
}

std::string Coverage::json() const {
  std::string out;
  std::string_view group;
  for (const auto& [key, times] : with_zeros()) {
    if (key.first != group)
      out += fmt::format("{}\"{}\": {{", group.empty() ? "" : "}, ", key.first);
    else
      out += ", ";
    group = key.first;
    out += fmt::format("\"{}\": {}", key.second, times);
  }
  return "{" + out + (out.empty() ? "}" : "}}");
}

std::string Coverage::missing() const {
  for (const auto& [key, times] : with_zeros())
    if (times == 0) return fmt::format("{}: {}", key.first, key.second);
  return "";
}

}  // namespace millrace::sim
