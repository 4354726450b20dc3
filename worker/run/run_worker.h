// What the command `run` does: parses the handlers, runs the executors, shows their status.
#pragma once

#include "worker/run/run_options.h"

namespace millrace::worker {

Result<ExitCode> run_worker(RunOptions& options);

}  // namespace millrace::worker
