// One run: a stage, its processes, the faults of the plan, the end.
// Shape:   chaos: producers submit, workers work, faults come at their times
//          → healing: every fault ends, every process is up
//          → draining: everything must end within a bound → the totals are compared
// Limits:  kDrainLimit of simulated time for the end
// Errors:  Outcome::violation
// Threads: one
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "tests/sim/broker.h"
#include "tests/sim/producer.h"
#include "tests/sim/worker.h"

namespace millrace::sim {

struct Outcome {
  std::optional<Violation> violation;
  std::string transcript;  // if it was traced
  Nanos simulated = 0;
  uint64_t events = 0;
  uint64_t trace_hash = 0;
  Coverage coverage;
  Oracle::Totals totals;
  Nanos failed_at = 0;
};

class Simulation {
 public:
  Simulation(Plan plan, Mutation mutation, bool tracing);
  Outcome run();
  const World& world() const { return stage_.world; }

 private:
  void live();
  void inject(const Fault& fault);
  void restart_broker(Nanos wait);
  void operate();  // operations.cpp: what people do, now and then
  void settle_operations();
  void heal();
  void drain();
  bool is_over() const;
  void watch();  // once in a while: what must hold at any moment
  [[noreturn]] void stuck() const;
  void on_path(const Fault& fault, const std::function<void(size_t path)>& action);
  void touch(size_t path);
  Process& process(uint64_t target);

  Stage stage_;
  Broker broker_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Producer>> producers_;
  Nanos next_downtime_ = kSecond;  // of a broker that ends by itself
  bool healed_ = false;
  Random operator_;
};

}  // namespace millrace::sim
