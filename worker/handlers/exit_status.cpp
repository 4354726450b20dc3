#include "worker/handlers/exit_status.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "common/base/result.h"

namespace millrace::worker {

using Kind = Completion::Kind;

bool exited_well(const ChildProcess::End& end) {
  return end.kind == ChildProcess::End::Kind::exited && WIFEXITED(end.status) &&
         WEXITSTATUS(end.status) == 0;
}

Completion no_memory() {
  return Completion::failed(Kind::released,
                            "this worker has no memory for the job's payload or its result");
}

Completion too_late() {
  return Completion::failed(Kind::too_late, "this worker was suspended before the job could start");
}

Completion not_started(const Error& why) {
  if (why.code == ExitCode::unavailable) return too_late();
  const bool is_short = why.code == ExitCode::temporary;
  return Completion::failed(is_short ? Kind::released : Kind::retryable, why.message);
}

Completion failure_of(const ChildProcess::End& end, const StderrLog& log) {
  if (end.kind == ChildProcess::End::Kind::refused) return not_started(end.why);
  if (end.kind == ChildProcess::End::Kind::lost)
    return Completion::failed(Kind::crash, "the worker's spawn server was killed as it ran");
  const int status = end.status;
  Kind kind = Kind::retryable;
  std::string what;
  if (WIFSIGNALED(status)) {
    int signal = WTERMSIG(status);
    kind = signal == SIGXCPU ? Kind::retryable : Kind::crash;
    what = fmt::format("killed by signal {} ({})", signal, strsignal(signal));
  } else {
    int code = WEXITSTATUS(status);
    if (code == int(ExitCode::bad_data)) kind = Kind::permanent;
    what = fmt::format("exit status {}", code);
  }
  std::string tail = log.tail();
  if (!tail.empty()) what += ": " + tail;
  return Completion::failed(kind, std::move(what));
}

}  // namespace millrace::worker
