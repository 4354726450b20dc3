// What people do to queues and jobs while all this goes on: limits, pauses, cancels, purges,
// retries. A new operation of the core gets its case here.
#include <fmt/format.h>

#include "tests/sim/simulation.h"

namespace millrace::sim {
namespace {

constexpr uint64_t kPlenty = 1 << 20;
constexpr Millis kPatience{
    100'000};  // longer than any delay or backoff that is not meant to be far

records::QueueSettings draw_settings(Random& random) {
  records::QueueSettings s;
  s.weight = uint64_t(random.between(1, 5));
  s.order = random.chance(300) ? records::Order::fair : records::Order::fifo;
  s.paused = random.chance(150);
  if (random.chance(300)) s.concurrency = uint64_t(random.between(1, 5));
  if (random.chance(300)) s.rate = uint64_t(random.spread(1, 200));
  if (random.chance(200)) s.max_length = uint64_t(random.spread(1, 200));
  if (random.chance(200)) s.max_attempts = uint8_t(random.between(1, 6));
  if (random.chance(200))
    s.backoff_min = Millis(random.between(10, 500)),
    s.backoff_max = Millis(random.between(500, 5000));
  if (random.chance(200)) s.lease = Millis(random.between(1000, 20'000));
  if (random.chance(100)) s.ttl = Millis(random.spread(500, 60'000));
  return s;
}

records::QueueSettings count(World& world, records::QueueSettings s) {
  auto add = [&](bool is, std::string_view what) {
    if (is) world.count("queue settings", what);
  };
  add(s.weight != 1, "weight");
  add(s.order == records::Order::fair, "fair order");
  add(s.paused, "paused");
  add(s.concurrency > 0, "concurrency");
  add(s.rate > 0, "rate");
  add(s.max_length > 0, "max length");
  add(s.max_attempts > 0, "max attempts");
  add(s.backoff_min.count() > 0, "backoff");
  add(s.lease.count() > 0, "lease");
  add(s.ttl.count() > 0, "TTL");
  return s;
}

// Where a job is, as people are told, is where it is.
void explain(const core::Core& core, Now now, Random& random) {
  const JobId job{1 + random.below(core.state().next_job().value)};
  const core::Explanation told = core.explain(now, job);
  if (told.state != core.state().state_of(job) || told.why.empty())
    World::fail(
        {"why a job waits is true", fmt::format("j{}: {}", job.value, told.why), job.value});
}

// Some of the latest jobs, and one that was never given.
std::vector<protocol::JobRange> draw_jobs(Random& random, const core::State& state) {
  uint64_t last = state.next_job().value;
  uint64_t first = last - std::min(last - 1, random.below(60));
  return {{{first}, 1 + random.below(8)}, {{1 + random.below(last)}, 1}, {{first}, 1}};
}

core::DeadFilter draw_filter(Random& random, const core::State& state, const std::string& queue) {
  core::DeadFilter filter;
  if (random.chance(500)) filter.queue = queue;
  if (random.chance(300)) filter.error = "payload";
  if (random.chance(300)) filter.older = Millis(random.between(1, 5000));
  if (random.chance(300)) filter.jobs = draw_jobs(random, state);
  return filter;
}

}  // namespace

void Simulation::operate() {
  stage_.world.after(operator_.between(1, 2 * stage_.plan.operation_each), [this] {
    if (healed_) return;
    const std::string queue = operator_.pick(stage_.plan.queues);
    const uint64_t which = operator_.below(11);
    const uint64_t seed = operator_.next();
    broker_.ask([this, queue, which, seed](core::Core& core, Now now, core::Output& out) {
      Random random(seed);
      auto say = [&](std::string_view what) {
        stage_.world.count("people", what);
        stage_.world.note("fault", [&] { return fmt::format("someone asks: {} {}", what, queue); });
      };
      switch (which) {
        case 0:
        case 1:
        case 2:
        case 3:
          say("set");
          return core.set_queue(now, queue, count(stage_.world, draw_settings(random)), out);
        case 4:
          say("reset");
          return core.set_queue(now, queue, {}, out);
        case 5:
        case 6:
          say("cancel");
          core.cancel(now, draw_jobs(random, core.state()), out);
          return;
        case 7:
          say("purge");
          core.start(now, {core::BulkKind::purge, queue, {}});
          return;
        case 8:
          say("revive");
          core.start(now, {core::BulkKind::retry, "", draw_filter(random, core.state(), queue)});
          return;
        case 9:
          say("why");
          return explain(core, now, random);
        default:
          say("drop");
          core.start(now, {core::BulkKind::drop, "", draw_filter(random, core.state(), queue)});
          return;
      }
    });
    operate();
  });
}

// Queues as they were in the beginning, and nothing that is due after everybody's patience: what
// producers have still to send may be.
void Simulation::settle_operations() {
  stage_.world.after(kSecond, [this] {
    broker_.ask([this](core::Core& core, Now now, core::Output& out) {
      for (const core::Queue& queue : core.state().queues())
        if (!(queue.settings == records::QueueSettings{}))
          core.set_queue(now, std::string(queue.name), {}, out);
      std::vector<protocol::JobRange> far;
      for (const auto& [due, job] : core.state().due())
        if (due > now.wall + kPatience) far.push_back({job, 1});
      for (protocol::JobRange range : far) core.explain(now, range.first);
      core.cancel(now, far, out);
      // The dead take memory until somebody decides about them.
      core::DeadFilter all;
      all.jobs = {{JobId{1}, core.state().next_job().value}};
      if (stage_.plan.settings.max_memory < kPlenty)
        core.start(now, {core::BulkKind::drop, "", all});
    });
    settle_operations();
  });
}

}  // namespace millrace::sim
