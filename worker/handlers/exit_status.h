// What the end of a handler's process means, the same for exec: and stream:.
// Shape:   a signal: crash; exit 65: permanent; any other status: retryable. The text has the end
//          of what the process wrote to stderr.
// Threads: immutable
#pragma once

#include "worker/handlers/stderr_log.h"
#include "worker/job.h"

namespace millrace::worker {

// `status` as waitpid() has it.
bool exited_well(int status);
Completion failure_of(int status, const StderrLog& log);

}  // namespace millrace::worker
