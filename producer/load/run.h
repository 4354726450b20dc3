// A load from beginning to end: starts its producers, watches them second by second, adds up what
// they saw.
// Owns:    the load clients and their threads, which it joins
// Threads: one thread, besides the load clients'
#pragma once

#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "common/cli/progress.h"
#include "producer/load/load.h"
#include "producer/load/load_client.h"
#include "producer/load/series.h"
#include "producer/load/summary.h"

namespace millrace::producer {

class LoadRun {
 public:
  LoadRun(const LoadFlags& flags, LoadPlan plan);
  ~LoadRun();
  Result<ExitCode> run();

 private:
  Result<void> open();
  Result<void> watch();
  void take_interrupt();
  void wait(Mono until);
  void look();
  Result<void> close_row(Mono now);
  void show_progress(Mono now);
  void join();
  LoadSummary summary() const;
  Result<ExitCode> conclude();
  Result<ExitCode> verdict(const LoadCounts& counts) const;
  std::string left_over(const LoadCounts& counts) const;

  const LoadFlags& flags_;
  const LoadPlan plan_;
  Waiter waiter_;  // before any thread
  LoadHub hub_;
  std::deque<LoadClient> load_clients_;
  std::vector<std::thread> threads_;
  std::optional<LoadSeries> series_;
  Progress progress_;
  std::optional<Mono> start_;
  Mono next_row_ = Mono::max();
  LoadInterval row_;  // since the last one
  uint64_t sent_ = 0, confirmed_ = 0, ended_ = 0;
};

}  // namespace millrace::producer
