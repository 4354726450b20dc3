// Runs a shell command for each job, so that a handler can be written in any language.
// Shape:   payload → stdin, complete before the command starts; MILLRACE_JOB_ID, MILLRACE_QUEUE, MILLRACE_ATTEMPT, MILLRACE_EPOCH in
//          the environment; stdout → result; stderr → our log, and its end → the error text
//          exit 0: done; 75: retryable; 65: permanent; other: retryable; a signal: crash
//          What the command leaves running ends with it: worker/process/spawn_server.h
// Limits:  more output than the broker takes as a result kills the command: a permanent failure
// Owns:    nothing between two jobs; the spawner must outlive it
// Threads: run() by many at once; SIGPIPE must be ignored in this process
#pragma once

#include <string>

#include "worker/handlers/handler.h"
#include "worker/handlers/stderr_log.h"
#include "worker/process/shell_command.h"
#include "worker/process/spawner.h"

namespace millrace::worker {

class ExecHandler : public Handler {
 public:
  ExecHandler(std::string_view command, Spawner& spawner, CommandLimits limits = {})
      : command_(shell_command(command)), spawner_(spawner), limits_(limits) {}
  Completion run(const JobContext& context) override;
  bool ends_when_stopped() const override { return true; }

 private:
  Completion run_command(const JobContext& context);

  std::string command_;
  Spawner& spawner_;
  const CommandLimits limits_;
  LineBudget budget_;
};

}  // namespace millrace::worker
