// A worker's loop: joins a pool with a connection to each broker, and drains them on a signal. A
// process has one for the queues that share a pool, and one for each queue with threads of its own.
// Shape:   serving ──signal──▶ draining ──time is up──▶ stopping ──▶ leaving ──▶ end
//          Stopping: handlers have been told to stop, and what they ran is released as they return.
//          A second signal ends it at once. Heartbeats come from this loop, so a stuck worker is
//          seen as one. A pool with too many stuck threads drains it too.
//          While this host is short of something, or all jobs fail at once, it holds few jobs or none
//          (worker/session/throttle.h).
//          Several brokers share the pool: what it wants is divided between them
//          (worker/session/credit_split.h). One that is unreachable does not stop the others.
// Errors:  unavailable: no broker within --connect-timeout, or all refuse the connection for good, or
//          one did not confirm the last completions
// Owns:    everything between its make and its end; inbox and context must outlive it
// Threads: one: the protocol thread; those of the pool are its own. status() is for any
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>
#include <zmq.hpp>

#include "common/base/repeat_limiter.h"
#include "common/os/wakeup.h"
#include "worker/pool/pool.h"
#include "worker/run/connection.h"
#include "worker/run/executor_status.h"
#include "worker/run/run_options.h"
#include "worker/run/signal_inbox.h"
#include "worker/session/gathering.h"
#include "worker/session/throttle.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

class Runner {
 public:
  Runner(const RunOptions& options, std::vector<QueueHandler> handlers, SignalInbox& inbox,
         zmq::context_t& context);

  Result<ExitCode> run();
  // After run(): whether handlers went on that can't be stopped. Then the process has to end
  // without the destructor.
  bool has_unstoppable() const { return has_unstoppable_; }

  ExecutorStatus status() const { return board_.read(pool_->stats()); }

 private:
  enum class Phase { serving, draining, stopping, leaving };
  static constexpr Millis kDivideEvery{50};

  Result<ExitCode> loop();
  Result<void> look_for_brokers(Mono now);
  Result<void> allow_starts();
  void divide_credit(Mono now);
  void wait(Mono now);
  Mono wake_at() const;
  void collect(Mono now);
  void deliver(std::vector<Finished> finished);
  std::chrono::nanoseconds work_ahead() const;
  void throttle(const std::vector<Finished>& ends, Mono now);
  void apply_throttle(bool changed);
  void watch_memory(Mono now);
  void give_back_waiting();
  void tend_pool(Mono now);

  void on_signal(int signal, Mono now);
  void on_too_many_stuck(Mono now);
  void start_drain(Mono now);
  void stop_running(Mono now);
  void give_up(Mono now);
  // Nothing while draining continues, then how it ended.
  std::optional<ExitCode> drain_result(Mono now);
  void say_bye();
  template <typename Count>
  size_t sum(Count&& count) const {
    size_t all = 0;
    for (const Connection& line : lines_) all += count(line.session());
    return all;
  }
  size_t held() const {
    return sum([](const WorkerSession& session) { return session.held(); });
  }
  size_t unconfirmed() const {
    return sum([](const WorkerSession& session) { return session.unconfirmed(); });
  }

  const RunOptions& options_;
  std::vector<QueueHandler> handlers_;
  SignalInbox& inbox_;
  Wakeup wakeup_;
  StatusBoard board_;
  std::unique_ptr<Pool> pool_;
  std::deque<Connection> lines_;  // one to each broker
  std::vector<zmq::pollitem_t> items_;

  RepeatLimiter standstills_{Millis(10'000)};

  Throttle throttle_;
  uint64_t throttled_to_ = Throttle::kNoLimit;
  Mono memory_at_{};  // when to look
  uint64_t seen_shortages_ = 0;

  // How several brokers share what the pool wants.
  CreditPolicy credit_;
  std::vector<uint64_t> limits_;
  Mono divide_at_{};
  bool divide_pending_ = false;
  size_t connected_before_ = 0, held_before_ = 0;

  Gathering gathering_;

  Phase phase_ = Phase::serving;
  Mono deadline_ = Mono::max();  // of the phase
  std::optional<ExitCode> stopped_;
  bool ever_connected_ = false;
  bool too_many_stuck_ = false;
  bool has_unstoppable_ = false;
};

}  // namespace millrace::worker
