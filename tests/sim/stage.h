// What every process of a run shares: time, network, disk, the plan, the witness.
// Threads: one
#pragma once

#include "tests/sim/clock.h"
#include "tests/sim/directory.h"
#include "tests/sim/mutations.h"
#include "tests/sim/network.h"
#include "tests/sim/reference_model.h"

namespace millrace::sim {

struct Stage {
  Stage(Plan the_plan, Mutation the_mutation, bool tracing)
      : plan(std::move(the_plan)),
        mutation(the_mutation),
        random(plan.seed),
        world(tracing),
        network(world, random.fork("network")),
        disk(world, plan.disk_bytes, random.fork("disk")),
        oracle(world, plan),
        model(world, disk, oracle, plan.settings.retention) {
    disk.set_lying(mutation == Mutation::sync_lies);
  }
  Stage(const Stage&) = delete;

  bool mutated(Mutation which) const { return mutation == which; }

  const Plan plan;
  const Mutation mutation;
  const Random random;
  World world;
  Network network;
  Disk disk;
  DiskTrouble trouble;
  Oracle oracle;
  ReferenceModel model;
};

// A process that works in turns: something wakes it, it does all there is to do, and says when it
// wants to be woken next. A stopped one (SIGSTOP) misses nothing, but does nothing.
class Process {
 public:
  Process(Stage& stage, int64_t drift_ppm) : stage_(stage), clock_(drift_ppm) {}
  virtual ~Process() { *alive_ = false; }
  Process(const Process&) = delete;

  void stop_until(Nanos when) {
    stopped_until_ = std::max(stopped_until_, when);
    wake_at(when);
  }
  void jump_wall(int64_t ms) { clock_.jump(ms); }
  void right_wall() { clock_.right(); }

 protected:
  virtual void turn() = 0;
  void wake() { wake_at(stage_.world.now() + 5 * kMicro); }
  void wake_at(Nanos when) {
    when = std::max({when, stopped_until_, stage_.world.now()});
    if (when >= armed_) return;
    armed_ = when;
    stage_.world.at(when, [this, alive = alive_, when] {
      if (!*alive || armed_ != when) return;
      armed_ = INT64_MAX;
      if (stage_.world.now() < stopped_until_) return wake_at(stopped_until_);
      turn();
    });
  }
  void wake_at(Mono when) {
    if (when != Mono::max()) wake_at(clock_.when(when));
  }
  Now now() const { return clock_.read(stage_.world.now()); }

  Stage& stage_;
  Clock clock_;

 private:
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Nanos armed_ = INT64_MAX;
  Nanos stopped_until_ = 0;
};

}  // namespace millrace::sim
