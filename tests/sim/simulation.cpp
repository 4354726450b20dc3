#include "tests/sim/simulation.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::sim {
namespace {

// A job may have to wait for its backoff, for a lease to run out, for its worker to come back, and
// each again up to its limits.
constexpr Nanos kStillLimit = 200 * kSecond;
constexpr Nanos kDrainLimit = 7200 * kSecond;
constexpr Nanos kWatchEach = 2 * kSecond;
constexpr size_t kLinesShown = 160;

}  // namespace

Simulation::Simulation(Plan plan, Mutation mutation, bool tracing)
    : stage_(std::move(plan), mutation, tracing),
      broker_(stage_),
      operator_(stage_.random.fork("operator")) {
  for (size_t i = 0; i < stage_.plan.workers; ++i)
    workers_.push_back(std::make_unique<Worker>(stage_, i));
  for (size_t i = 0; i < stage_.plan.producers; ++i)
    producers_.push_back(std::make_unique<Producer>(stage_, i));
  broker_.on_exit([this] { restart_broker(std::exchange(next_downtime_, kSecond)); });
  for (auto& worker : workers_) {
    worker->on_exit([this, at = worker.get()] {
      stage_.world.after(500 * kMilli, [at] {
        if (!at->up()) at->begin();
      });
    });
  }
}

Outcome Simulation::run() {
  Outcome outcome;
  try {
    live();
  } catch (const Violation& violation) {
    outcome.violation = violation;
    outcome.failed_at = stage_.world.now();
    if (stage_.world.tracing())
      outcome.transcript = transcript(stage_.world, violation, kLinesShown);
  }
  outcome.simulated = stage_.world.now();
  outcome.events = stage_.world.events();
  outcome.trace_hash = stage_.world.trace_hash();
  outcome.coverage = stage_.world.coverage();
  outcome.totals = stage_.oracle.totals();
  return outcome;
}

void Simulation::live() {
  broker_.start();
  for (auto& worker : workers_) worker->begin();
  for (auto& producer : producers_) producer->begin(false);
  for (const Fault& fault : stage_.plan.faults)
    stage_.world.at(fault.at, [this, fault] { inject(fault); });
  if (stage_.plan.operation_each > 0) operate();
  watch();
  while (stage_.world.step(stage_.plan.chaos)) {
  }
  heal();
  drain();
  stage_.model.update();
  broker_.check_live_is_durable();
  stage_.oracle.check_totals(stage_.model.state());
  broker_.check_bounds();
}

void Simulation::watch() {
  stage_.world.after(kWatchEach, [this] { watch(); });
  if (!broker_.quiet()) return;
  stage_.model.update();
  broker_.check_live_is_durable();
}

void Simulation::restart_broker(Nanos wait) {
  stage_.world.after(wait, [this] {
    if (!broker_.up()) broker_.start();
  });
}

// Until here and not further: the faults' own ends may still come, and find nothing to do.
void Simulation::heal() {
  healed_ = true;
  stage_.world.note("run", [] { return "all is healed"; });
  stage_.trouble = {};
  auto clear = [this](size_t path) {
    stage_.network.unblock(path);
    stage_.network.settle(path);
    stage_.network.path(path).doubled_per_mille = 0;
    stage_.network.path(path).refused = false;
  };
  stage_.disk.set_ballast(0);
  broker_.right_wall();
  settle_operations();
  for (auto& worker : workers_) clear(worker->path());
  for (auto& producer : producers_) {
    clear(producer->path());
    producer->finish();
  }
}

// Something must happen once in a while, until all is over.
void Simulation::drain() {
  const Nanos begun = stage_.world.now();
  Nanos moved = begun;
  records::Counts counts;
  // Time passes in steps, so that the look at everything is not taken after each event.
  while (!is_over()) {
    Nanos until = stage_.world.now() + 100 * kMilli;
    while (stage_.world.step(until)) {
    }
    if (!(stage_.model.state().counts() == counts))
      counts = stage_.model.state().counts(), moved = until;
    if (until - moved > kStillLimit || until - begun > kDrainLimit) stuck();
  }
  // Whoever was forgotten must be noticed, and retired segments be gone.
  Nanos until =
      stage_.world.now() +
      2 * stage_.plan.settings.heartbeat.count() * int64_t(stage_.plan.settings.liveness) * kMilli +
      5 * kSecond;
  while (stage_.world.step(until)) {
  }
  if (!is_over()) drain();
}

bool Simulation::is_over() const {
  if (!broker_.quiet() || broker_.live_jobs() > 0) return false;
  auto idle = [](const auto& process) { return process->idle(); };
  return std::all_of(producers_.begin(), producers_.end(), idle) &&
         std::all_of(workers_.begin(), workers_.end(), idle);
}

void Simulation::stuck() const {
  Violation violation{"everything drains", ""};
  for (const auto& producer : producers_)
    if (!producer->idle())
      violation.what += producer->waits_for() + "; ", violation.peer = producer->name();
  for (const auto& worker : workers_)
    if (!worker->idle())
      violation.what += worker->name() + " is not idle; ", violation.peer = worker->name();
  const core::State& state = stage_.model.state();
  violation.what += fmt::format("{} ready, {} leased, {} waiting", state.ready_jobs(),
                                state.leased_jobs(), state.due().size());
  for (uint64_t job = 1; job < state.next_job().value; ++job) {
    auto at = state.state_of({job});
    if (protocol::is_end(at)) continue;
    violation.job = job;
    break;
  }
  World::fail(std::move(violation));
}

}  // namespace millrace::sim
