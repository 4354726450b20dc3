// Keeps a shell command running for each thread that needs one, and gives it job after job: a line
// of JSON in, a line of JSON out. docs/HANDLERS.md has both, and what each end means.
// Shape:   idle children ⇄ run(): take or start one → job line → answer line → give it back
//          A child that answered badly, was stopped or has ended is never given another job.
//          A limit of CPU time is of each job, so it is renewed between two.
// Limits:  an answer's line is at most what the largest result can take in JSON: six bytes for one
// Owns:    the children; the destructor closes their stdin and ends those that stay. The spawner must
//          outlive it
// Threads: run() by many at once; SIGPIPE must be ignored in this process
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "worker/handlers/handler.h"
#include "worker/handlers/stderr_log.h"
#include "worker/process/child_process.h"
#include "worker/process/shell_command.h"
#include "worker/process/spawner.h"

namespace millrace::worker {

class StreamHandler : public Handler {
 public:
  static constexpr Millis kShutdownGrace{1000};  // for children to end in, once stdin is closed

  StreamHandler(std::string_view command, Spawner& spawner, CommandLimits limits = {})
      : command_(shell_command(command)), spawner_(spawner), limits_(limits) {}
  ~StreamHandler() override;
  Completion run(const JobContext& context) override;
  bool ends_when_stopped() const override { return true; }

 private:
  Completion run_child(const JobContext& context);
  Result<ChildProcess> take(const JobContext& context, const StopSignal::Watch& stop);
  std::optional<ChildProcess> take_idle();
  void give_back(ChildProcess child);
  bool wait_for_ends(Millis timeout);

  std::string command_;
  Spawner& spawner_;
  const CommandLimits limits_;
  LineBudget budget_;
  std::mutex lock_;
  std::vector<ChildProcess> idle_;
};

}  // namespace millrace::worker
