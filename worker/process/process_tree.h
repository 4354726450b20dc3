// Who descends from whom, as /proc tells it.
// Shape:   a process → its children; → all its descendants, parents first
//          kill_descendants(): none of this process, which is their subreaper, is left
// Limits:  a process that starts or ends meanwhile may be missing: who must have all looks again
// Errors:  nothing where /proc is missing, or the kernel was built without CONFIG_PROC_CHILDREN
// Threads: any
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/base/time.h"
#include "common/os/file_descriptor.h"

namespace millrace::worker {

std::vector<pid_t> children_of(pid_t process);
std::vector<pid_t> descendants_of(pid_t process);

// For all to end in; what the kernel can't end is left behind.
inline constexpr Millis kLastTry{900};
// Kills and reaps all descendants of this process, which has one thread.
void kill_descendants();

// The children of this process, which has one thread; cheap enough for each end of a command.
class OwnChildren {
 public:
  OwnChildren();
  std::vector<pid_t> list() const;

 private:
  FileDescriptor file_;
};

// What a process had as variable `name` when it was executed; empty without one, or where that must
// not be read.
std::string initial_variable(pid_t process, std::string_view name);

}  // namespace millrace::worker
