// What the end of a handler's process means, the same for exec: and stream:.
// Shape:   a signal: crash, but for SIGXCPU, which is a time-out; exit 65: permanent; any other status: retryable. The text has the end
//          of what the process wrote to stderr.
//          not started for lack of something on this host: released, which charges nothing
//          the spawn server was killed: crash, as when the worker vanishes: the command may be why
// Threads: immutable
#pragma once

#include <new>

#include "worker/handlers/stderr_log.h"
#include "worker/job/job.h"
#include "worker/process/child_process.h"

namespace millrace::worker {

bool exited_well(const ChildProcess::End& end);
Completion failure_of(const ChildProcess::End& end, const StderrLog& log);
Completion not_started(const Error& why);
// This worker stood still, and may have lost the job.
Completion too_late();

// This worker has no memory for the job's input or result: not the command's fault.
Completion no_memory();
template <typename Run>
Completion unless_no_memory(Run&& run) {
  try {
    return run();
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

}  // namespace millrace::worker
