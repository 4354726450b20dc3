// Starts a program as posix_spawn() does, without a copy of this process, and with what
// posix_spawn() has no attribute for: limits, and an end together with the parent.
// Shape:   streams at 0, 1 and 2, no other descriptor that is close-on-exec; leader of a group of its
//          own; no signal blocked; SIGKILL when the parent ends
// Errors:  errno of clone() or execve()
// Threads: of a process with one thread, which has no signal handlers and does not ignore any
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <vector>

namespace millrace::worker {

struct ResourceLimit {
  __rlimit_resource resource;
  rlimit value;
};

struct CommandStart {
  // Looked for on PATH first, if there are any; when it can't be executed, `program` is.
  char* const* words = nullptr;
  const char* program = nullptr;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  std::array<int, 3> streams{-1, -1, -1};  // none of them is 0, 1 or 2
  const std::vector<ResourceLimit>* limits = nullptr;
};

// The child, or -errno.
pid_t start_command(const CommandStart& start);

}  // namespace millrace::worker
