#include "worker/process/start_command.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>

namespace millrace::worker {
namespace {

struct Child {
  const CommandStart& start;
  pid_t parent;
  int error = 0;
};

// The parent waits until this has executed the program or ended, and shares its memory until then.
int run_child(void* argument) {
  Child& child = *static_cast<Child*>(argument);
  const CommandStart& start = child.start;
  sigset_t none;
  sigemptyset(&none);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != child.parent) _exit(127);  // it has ended before it could matter
  setpgid(0, 0);
  for (int to = 0; to < 3; ++to) dup2(start.streams[size_t(to)], to);
  for (const ResourceLimit& limit : *start.limits) setrlimit(limit.resource, &limit.value);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (start.words) execvpe(start.words[0], start.words, start.environment);
  execve(start.program, start.arguments, start.environment);
  child.error = errno;
  _exit(127);
}

}  // namespace

pid_t start_command(const CommandStart& start) {
  constexpr size_t kStack = 64 << 10;
  alignas(16) static std::array<char, kStack> stack;
  Child child{start, getpid()};
  const pid_t pid =
      clone(run_child, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
  if (pid < 0) return -errno;
  return child.error == 0 ? pid : -child.error;
}

}  // namespace millrace::worker
