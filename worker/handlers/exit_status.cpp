#include "worker/handlers/exit_status.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstring>

#include "common/result.h"

namespace millrace::worker {

using Kind = Completion::Kind;

bool exited_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

Completion failure_of(int status, const StderrLog& log) {
  Kind kind = Kind::retryable;
  std::string what;
  if (WIFSIGNALED(status)) {
    int signal = WTERMSIG(status);
    kind = Kind::crash;
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
