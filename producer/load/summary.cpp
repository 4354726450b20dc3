#include "producer/load/summary.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/cli/progress.h"

namespace millrace::producer {
namespace {

using Json = nlohmann::ordered_json;

double to_ms(uint64_t us) { return double(us) / 1000; }

Json percentiles(const Histogram& us) {
  return {{"p50", to_ms(us.quantile(0.5))},
          {"p90", to_ms(us.quantile(0.9))},
          {"p99", to_ms(us.quantile(0.99))},
          {"p999", to_ms(us.quantile(0.999))},
          {"max", to_ms(us.max())}};
}

void print_percentiles(std::string_view name, const Histogram& us) {
  if (us.count() == 0) return;
  fmt::print("{:<12}p50 {:.2f}  p90 {:.2f}  p99 {:.2f}  p99.9 {:.2f}  max {:.2f} ms\n", name,
             to_ms(us.quantile(0.5)), to_ms(us.quantile(0.9)), to_ms(us.quantile(0.99)),
             to_ms(us.quantile(0.999)), to_ms(us.max()));
}

}  // namespace

double LoadSummary::rate() const {
  const uint64_t passed = counts.waited ? counts.measured_completed : counts.measured_confirmed;
  return seconds > 0 ? double(passed) / seconds : 0;
}

std::string LoadSummary::json() const {
  Json json{{"sent", counts.sent},
            {"confirmed", counts.confirmed},
            {"rejected", counts.rejected},
            {"unknown", counts.unknown},
            {"completed", counts.completed},
            {"awaited", counts.outstanding},
            {"failed", counts.dead + counts.dropped},
            {"dead", counts.dead},
            {"lost", counts.lost()},
            {"duplicates", counts.duplicates},
            {"seconds", seconds},
            {"rate", rate()},
            {"confirm_ms", percentiles(counts.confirm_us)},
            {"latency_ms", percentiles(counts.latency_us)},
            {"submit_seconds", submit_seconds},
            {"resent_known", counts.known},
            {"buffered", counts.buffered},
            {"balanced", counts.balanced()},
            {"clients", clients}};
  if (counts.compared) json["mismatched"] = counts.mismatched;
  if (counts.verified) {
    json["verified"] = {{"done", counts.told_done},
                        {"dead", counts.told_dead},
                        {"live", counts.told_live},
                        {"missing", counts.told_missing}};
  }
  if (warm_up_seconds > 0) {
    json["warm_up"] = {{"seconds", warm_up_seconds},
                       {"confirmed", counts.confirmed - counts.measured_confirmed},
                       {"completed", counts.completed - counts.measured_completed}};
  }
  for (const auto& [queue, sent] : queues) json["queues"][queue] = {{"sent", sent}};
  return json.dump();
}

void LoadSummary::print_text() const {
  auto row = [](std::string_view name, uint64_t count) {
    fmt::print("{:<12}{:>12}\n", name, with_thousands(count));
  };
  row("sent", counts.sent);
  for (const auto& [queue, sent] : queues) row(" " + queue, sent);
  row("confirmed", counts.confirmed);
  if (counts.buffered) row(" buffered", counts.buffered);
  row("rejected", counts.rejected);
  row("unknown", counts.unknown);
  if (counts.waited) {
    row("completed", counts.completed);
    row("dead", counts.dead);
    if (counts.outstanding) row("no end yet", counts.outstanding);
  }
  row("lost", counts.lost());
  row("duplicates", counts.duplicates);
  if (counts.compared) row("mismatched", counts.mismatched);
  if (counts.verified) {
    fmt::print("{:<12}{} done, {} dead, {} live, {} missing\n", "verified",
               with_thousands(counts.told_done), with_thousands(counts.told_dead),
               with_thousands(counts.told_live), with_thousands(counts.told_missing));
  }
  fmt::print("{:<12}{:.2f} s, {} a second\n", "time", seconds, with_thousands(uint64_t(rate())));
  if (warm_up_seconds > 0)
    fmt::print("{:<12}{:.2f} s before that; in the counts, not in times and rate\n", "warm-up",
               warm_up_seconds);
  print_percentiles("confirm", counts.confirm_us);
  print_percentiles("latency", counts.latency_us);
  if (!counts.balanced()) fmt::print("Totals do NOT reconcile.\n");
}

}  // namespace millrace::producer
