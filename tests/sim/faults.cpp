// What each kind of fault does. A new one gets its name and weight in plan.cpp, and its case here.
#include <fmt/format.h>

#include "tests/sim/simulation.h"

namespace millrace::sim {
namespace {

constexpr int64_t kMostJumpMs = 2 * 3600 * 1000;
constexpr uint64_t kMostOperations = 12;

}  // namespace

// A path belongs to a worker or a producer; the lease holders' witness wants to know.
void Simulation::touch(size_t path) {
  for (auto& worker : workers_)
    if (worker->path() == path) worker->touch();
}

void Simulation::on_path(const Fault& fault, const std::function<void(size_t)>& action) {
  size_t path = fault.target % (workers_.size() + producers_.size());
  touch(path);
  action(path);
}

Process& Simulation::process(uint64_t target) {
  size_t at = target % (1 + workers_.size() + producers_.size());
  if (at == 0) return broker_;
  return at <= workers_.size() ? static_cast<Process&>(*workers_[at - 1])
                               : static_cast<Process&>(*producers_[at - 1 - workers_.size()]);
}

void Simulation::inject(const Fault& fault) {
  World& world = stage_.world;
  world.count("faults", name_of(fault.kind));
  world.note("fault", [&] {
    return fmt::format("#{} {} for {} ms, target {}", fault.number, name_of(fault.kind),
                       fault.lasts / kMilli, fault.target % 64);
  });
  // Runs when the fault is over, unless all has been healed meanwhile.
  auto later = [&](std::function<void()> action) {
    world.after(fault.lasts, [this, action = std::move(action)] {
      if (!healed_) action();
    });
  };
  Worker& worker = *workers_[fault.target % workers_.size()];
  Producer& producer = *producers_[fault.target % producers_.size()];
  switch (fault.kind) {
    case FaultKind::broker_kill:
    case FaultKind::broker_power:
      broker_.kill(fault.kind == FaultKind::broker_power);
      return restart_broker(fault.lasts);
    case FaultKind::broker_stop:
      next_downtime_ = fault.lasts;
      return broker_.stop();
    case FaultKind::worker_kill:
    case FaultKind::worker_power:
      worker.kill(fault.kind == FaultKind::worker_power);
      return world.after(fault.lasts, [&worker] {
        if (!worker.up()) worker.begin();
      });
    case FaultKind::worker_drain:
      return worker.drain();
    case FaultKind::producer_kill:
    case FaultKind::producer_restart:
    case FaultKind::producer_power: {
      bool same = fault.kind == FaultKind::producer_restart;
      // One that comes back may find its older connection half-open, too.
      producer.kill(fault.kind == FaultKind::producer_power || (same && fault.amount % 3 == 0));
      return world.after(fault.lasts, [&producer, same] {
        if (!producer.up()) producer.begin(same);
      });
    }
    case FaultKind::disconnect:
      return on_path(fault, [&](size_t path) { stage_.network.reset(path); });
    case FaultKind::partition:
      return on_path(fault, [&](size_t path) {
        uint64_t ways = fault.amount % 4;  // 1: to the broker, 2: to the client, 0 and 3: both
        stage_.network.block(path, ways != 2, ways != 1);
        later([this, path] {
          touch(path);
          stage_.network.unblock(path);
        });
      });
    case FaultKind::slow_network:
      return on_path(fault, [&](size_t path) {
        stage_.network.path(path).extra = Nanos(fault.amount % uint64_t(kSecond));
        world.after(fault.lasts, [this, path] {
          touch(path);
          stage_.network.path(path).extra = 0;
        });
      });
    case FaultKind::pause: {
      Process& stopped = process(fault.target);
      stopped.stop_until(world.now() + fault.lasts);
      auto note = [this, &stopped] {
        if (&stopped == &broker_) stage_.oracle.touched_all();
        for (auto& each : workers_)
          if (each.get() == &stopped) each->touch();
      };
      note();
      return world.after(fault.lasts, note);
    }
    case FaultKind::wall_jump:
      stage_.oracle.wall_jumped();
      return process(fault.target)
          .jump_wall(int64_t(fault.amount % uint64_t(2 * kMostJumpMs)) - kMostJumpMs);
    case FaultKind::disk_full:
      stage_.disk.set_ballast(stage_.plan.disk_bytes - (fault.amount % 4 ? 0 : 3 << 20));
      stage_.oracle.touched_all();
      // Some becomes free before the rest: more than the reserve, but not 5/4 of it.
      if (fault.amount % 8 < 4)
        world.after(fault.lasts / 2, [this] {
          if (!healed_) stage_.disk.leave_free(9 << 19);
        });
      return later([this] {
        stage_.oracle.touched_all();
        stage_.disk.set_ballast(0);
      });
    case FaultKind::sync_error:
      stage_.trouble.sync_error = true;
      return later([this] { stage_.trouble.sync_error = false; });
    case FaultKind::write_error:
      stage_.trouble.write_error = true;
      return later([this] { stage_.trouble.write_error = false; });
    case FaultKind::power_at_sync:
      stage_.trouble.power_after = 1 + fault.amount % kMostOperations;
      stage_.trouble.power_lost = [this, lasts = fault.lasts] {
        broker_.kill(true);
        restart_broker(lasts);
      };
      return;
    case FaultKind::duplicate:
      return on_path(fault, [&](size_t path) {
        stage_.network.path(path).doubled_per_mille = 1 + fault.amount % 500;
        world.after(fault.lasts, [this, path] {
          touch(path);
          stage_.network.path(path).doubled_per_mille = 0;
        });
      });
    case FaultKind::reorder:
      return on_path(fault, [&](size_t path) {
        stage_.network.hold_back(path);
        world.after(fault.lasts / 2, [this, path] { stage_.network.overtake(path); });
        world.after(fault.lasts, [this, path] {
          touch(path);
          stage_.network.settle(path);
        });
      });
    case FaultKind::refuse:
      return on_path(fault, [&](size_t path) {
        stage_.network.path(path).refused = true;
        world.after(fault.lasts, [this, path] {
          touch(path);
          stage_.network.path(path).refused = false;
        });
      });
    case FaultKind::slow_disk:
      stage_.trouble.sync_extra = Nanos(fault.amount % uint64_t(3 * kSecond));
      stage_.trouble.read_extra = stage_.trouble.sync_extra * 2;
      stage_.oracle.touched_all();
      return later([this] {
        stage_.oracle.touched_all();
        stage_.trouble.sync_extra = stage_.trouble.read_extra = 0;
      });
  }
}

}  // namespace millrace::sim
