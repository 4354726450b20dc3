#include "tests/sim/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tests/sim/random.h"

namespace millrace::sim {
namespace {

struct Kind {
  std::string_view name;
  uint64_t weight;
  Nanos least, most;  // how long it lasts: downtime, partition, …
};
constexpr std::array<Kind, kFaultKinds> kKinds = {{
    {"broker-kill", 6, 50 * kMilli, 40 * kSecond},
    {"broker-power", 6, 100 * kMilli, 40 * kSecond},
    {"broker-stop", 2, 50 * kMilli, 10 * kSecond},
    {"worker-kill", 6, 50 * kMilli, 20 * kSecond},
    {"worker-power", 3, 50 * kMilli, 20 * kSecond},
    {"worker-drain", 3, 50 * kMilli, 10 * kSecond},
    {"producer-kill", 3, 50 * kMilli, 10 * kSecond},
    {"producer-restart", 5, 50 * kMilli, 10 * kSecond},
    {"producer-power", 2, 50 * kMilli, 10 * kSecond},
    {"disconnect", 8, 0, 0},
    {"partition", 8, 50 * kMilli, 30 * kSecond},
    {"slow-network", 4, kSecond, 20 * kSecond},
    {"pause", 6, 50 * kMilli, 20 * kSecond},
    {"wall-jump", 3, 0, 0},
    {"disk-full", 3, 50 * kMilli, 20 * kSecond},
    {"sync-error", 2, 50 * kMilli, 5 * kSecond},
    {"write-error", 1, 50 * kMilli, 5 * kSecond},
    {"slow-disk", 3, kSecond, 20 * kSecond},
    {"power-at-sync", 5, 100 * kMilli, 10 * kSecond},
    {"duplicate", 3, kSecond, 20 * kSecond},
    {"reorder", 4, 50 * kMilli, 5 * kSecond},
    {"refuse", 3, 10 * kMilli, 5 * kSecond},
}};

FaultKind draw_kind(Random& random) {
  uint64_t total = 0;
  for (const Kind& kind : kKinds) total += kind.weight;
  uint64_t at = random.below(total);
  size_t i = 0;
  for (; at >= kKinds[i].weight; ++i) at -= kKinds[i].weight;
  return FaultKind(i);
}

std::vector<Fault> draw_faults(Random random, Nanos chaos) {
  // Some runs are calm, so that what healthy peers do is seen as well as what faults do to it.
  const std::array<Nanos, 5> pauses = {500 * kMilli, 2 * kSecond, 6 * kSecond, 20 * kSecond,
                                       1000 * kSecond};
  Nanos pause = pauses[random.below(pauses.size())];
  // And some know a few kinds only, which then meet each other often.
  bool few = random.chance(400);
  std::vector<FaultKind> kinds;
  for (int i = 0; i < 3; ++i) kinds.push_back(draw_kind(random));
  std::vector<Fault> faults;
  for (Nanos at = random.between(kSecond, 3 * kSecond); at < chaos;
       at += random.between(1, 2 * pause)) {
    Fault fault;
    fault.kind = draw_kind(random);
    FaultKind other = random.pick(kinds);
    if (few) fault.kind = other;
    const Kind& kind = kKinds[size_t(fault.kind)];
    fault.at = at;
    fault.lasts = random.spread(kind.least, kind.most);
    fault.target = random.next();
    fault.amount = random.next();
    fault.number = faults.size();
    faults.push_back(fault);
  }
  return faults;
}

core::Settings draw_settings(Random random) {
  core::Settings settings;
  settings.heartbeat = Millis(random.pick<int>({250, 500, 1000, 1000}));
  settings.liveness = uint64_t(random.between(2, 4));
  settings.lease = Millis(random.pick<int>({3000, 5000, 10000, 30000}));
  settings.max_attempts = uint8_t(random.between(1, 6));
  settings.crash_limit = uint8_t(random.between(2, 6));
  settings.backoff_min = Millis(random.between(20, 500));
  settings.backoff_max = Millis(random.between(1000, 15000));
  settings.max_job_size = random.pick<uint64_t>({2048, 8192, 65536});
  settings.max_queued = random.chance(150) ? uint64_t(random.between(20, 200)) : 1'000'000;
  settings.window_jobs = uint64_t(random.spread(1, 2000));
  settings.window_bytes = uint64_t(random.spread(2000, 1 << 20));
  settings.retention.key_window = Millis(random.pick<int64_t>({5000, 60'000, 86'400'000}));
  settings.retention.result_ttl = Millis(random.pick<int64_t>({2000, 60'000, 3'600'000}));
  settings.retention.results = random.pick<size_t>({3, 100, 65536});
  settings.retention.result_bytes = random.pick<size_t>({200, 64 << 20});
  settings.max_memory = random.chance(100) ? uint64_t(random.between(12'000, 60'000)) : 1 << 30;
  if (random.chance(100)) settings.max_queued_per_producer = uint64_t(random.between(10, 200));
  settings.bulk_slice = random.pick<uint64_t>({1, 3, 30, 4096});
  if (random.chance(100)) settings.submit_rate_per_producer = uint64_t(random.between(20, 500));
  settings.history = random.pick<uint64_t>({3, 40, 100'000, 100'000});
  return settings;
}

}  // namespace

std::string_view name_of(FaultKind kind) { return kKinds[size_t(kind)].name; }

std::optional<FaultKind> parse_fault(std::string_view name) {
  for (size_t i = 0; i < kFaultKinds; ++i)
    if (kKinds[i].name == name) return FaultKind(i);
  return std::nullopt;
}

Plan make_plan(uint64_t seed, const Overrides& overrides) {
  const Random root(seed);
  Random random = root.fork("plan");
  Plan plan;
  plan.seed = seed;
  plan.chaos = random.between(20, 120) * kSecond;
  plan.producers = size_t(random.between(1, 4));
  plan.workers = size_t(random.between(1, 5));
  plan.settings = draw_settings(root.fork("settings"));
  plan.segment_bytes = random.pick<uint64_t>({96 << 10, 256 << 10, 1 << 20});
  plan.payload_memory = random.pick<uint64_t>({2000, 50'000, 100 << 20});
  Random loop = root.fork("loop");
  plan.backlog_bytes = loop.pick<size_t>({64 << 10, 1 << 20});
  plan.work_per_round = loop.pick<uint64_t>({100, 2000, 32768});
  plan.frame_time = loop.pick<Nanos>({kMicro, 30 * kMicro, 300 * kMicro});
  plan.disk_bytes = 64 << 20;
  for (int64_t i = 0, queues = random.between(1, 3); i < queues; ++i)
    plan.queues.push_back("q" + std::to_string(i));
  plan.jobs_per_second = double(random.spread(1, 40));
  plan.fail_per_mille = random.pick<uint64_t>({0, 50, 300});
  plan.poison_per_mille = random.pick<uint64_t>({0, 0, 3, 20});
  Random extras = root.fork("semantics");
  plan.delay_per_mille = extras.pick<uint64_t>({0, 0, 30, 300});
  plan.ttl_per_mille = extras.pick<uint64_t>({0, 0, 50, 300});
  plan.priority_per_mille = extras.pick<uint64_t>({0, 100, 500});
  plan.key_per_mille = extras.pick<uint64_t>({0, 0, 50, 300});
  plan.cancel_per_mille = extras.pick<uint64_t>({0, 0, 30, 300});
  plan.operation_each = extras.pick<Nanos>({0, 0, 10 * kSecond, 2 * kSecond, 500 * kMilli});
  if (overrides.plain) {
    plan.delay_per_mille = plan.ttl_per_mille = plan.priority_per_mille = plan.key_per_mille = 0;
    plan.operation_each = 0, plan.cancel_per_mille = 0;
  }
  plan.typical_run = random.spread(kMilli, 2 * kSecond);
  plan.latency = random.spread(30 * kMicro, 20 * kMilli);
  plan.sync_time = random.spread(200 * kMicro, 20 * kMilli);

  plan.producers = overrides.producers.value_or(plan.producers);
  plan.workers = overrides.workers.value_or(plan.workers);
  plan.jobs_per_second *= overrides.rate_factor.value_or(1.0);
  plan.faults = draw_faults(root.fork("faults"), plan.chaos);
  plan.chaos = overrides.chaos.value_or(plan.chaos);
  std::erase_if(plan.faults, [&](const Fault& fault) {
    auto has = [](const auto& list, auto item) {
      return std::find(list.begin(), list.end(), item) != list.end();
    };
    return fault.at >= plan.chaos || has(overrides.without, fault.kind) ||
           (overrides.only && !has(*overrides.only, fault.number));
  });
  return plan;
}

std::string Overrides::flags() const {
  std::string out;
  if (producers) out += fmt::format(" --producers {}", *producers);
  if (workers) out += fmt::format(" --workers {}", *workers);
  if (chaos) out += fmt::format(" --chaos-ms {}", *chaos / kMilli);
  if (rate_factor) out += fmt::format(" --rate {}", *rate_factor);
  if (only) {
    out += " --only ";
    for (size_t number : *only) out += fmt::format("{},", number);
    if (only->empty()) out += "none";
    if (out.back() == ',') out.pop_back();
  }
  if (plain) out += " --plain";
  for (FaultKind kind : without) out += fmt::format(" --without {}", name_of(kind));
  return out;
}

std::string describe(const Plan& plan) {
  const core::Settings& s = plan.settings;
  std::string out = fmt::format(
      "seed {}: {} producers, {} workers, {} queues, {:.1f} jobs/s for {} s; heartbeat {} ms x {}, "
      "lease {} ms, "
      "attempts {}, crashes {}, backoff {}..{} ms, window {}, segments of {} KiB, {} faults\n",
      plan.seed, plan.producers, plan.workers, plan.queues.size(), plan.jobs_per_second,
      plan.chaos / kSecond, s.heartbeat.count(), s.liveness, s.lease.count(), s.max_attempts,
      s.crash_limit, s.backoff_min.count(), s.backoff_max.count(), s.window_jobs,
      plan.segment_bytes >> 10, plan.faults.size());
  return out;
}

}  // namespace millrace::sim
