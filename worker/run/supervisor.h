// The executors of one worker process, each a Runner in a thread of its own, and what concerns them
// all: signals, the end, idleness.
// Shape:   queues without a share → one executor with --pool; each queue with one → a executor of its own,
//          under the name NAME/QUEUE, so that neither its threads nor its credit are others'
//          1. A signal goes to all executors. When one executor fails, the others drain.
//          2. All executors idle for --idle-exit: all drain.
// Errors:  the first executor's that failed; else the worst exit code
// Owns:    executors, threads, the context of all sockets; TerminationSignals must be made before it
// Threads: run() is for one; status() for any
#pragma once

#include <deque>
#include <optional>
#include <thread>

#include "common/os/termination_signals.h"
#include "worker/run/runner.h"

namespace millrace::worker {

class Supervisor {
 public:
  // The handlers stand in the order of options.queues.
  Supervisor(const RunOptions& options, std::vector<QueueHandler> handlers);
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Until all executors have ended. Listens to post(), and to `signals` if there are any.
  Result<ExitCode> run(TerminationSignals* signals);
  // As if this process had got the signal.
  void post(int signal);
  // Some handler did not stop: the process has to end without this object's destructor.
  bool has_unstoppable() const;

  std::vector<ExecutorStatus> status() const;

 private:
  struct Executor {
    RunOptions options;
    SignalInbox inbox;
    std::optional<Runner> runner;
    std::thread thread;
    std::optional<Result<ExitCode>> result;  // under lock_
  };

  void add_executor(RunOptions options, std::vector<QueueHandler> handlers);
  void start(Executor& executor);
  bool all_ended(bool* failed) const;
  void look_for_idleness(Mono now);
  void drain_all();
  Result<ExitCode> join();

  const RunOptions& options_;
  zmq::context_t context_;  // a thread for each broker
  std::deque<Executor> executors_;
  SignalInbox inbox_;
  Wakeup ended_;
  mutable std::mutex lock_;
  bool draining_ = false;
  Mono idle_since_{};
  uint64_t seen_confirmed_ = 0;
};

}  // namespace millrace::worker
