#include "common/os/process_state.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace millrace {
namespace {

uint64_t inherited_limit = 0;  // 0: not known

// Whoever is started without one of the standard streams must not take the next file that it opens
// for it: a result would land in a journal. As with GNU's programs, what is read or written there
// fails; only what would be said on stderr is just not said.
void hold_standard_streams() {
  constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_RDWR};
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", kModes[fd]);
}

// What would end a process by default, is sent by mistake or by a tool that means another one, and
// means nothing here. A profiler's handler stays.
void ignore_stray_signals() {
  auto ignore = [](int number) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_DFL)
      signal(number, SIG_IGN);
  };
  for (int number : {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT})
    ignore(number);
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) ignore(number);
}

// Handlers that a sanitizer has installed stay.
void reset_signals() {
  constexpr std::array kKept{SIGHUP, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU};
  for (int number = 1; number < NSIG; ++number) {
    bool is_kept = false;
    for (int kept : kKept) is_kept |= kept == number;
    struct sigaction action {};
    if (is_kept || sigaction(number, nullptr, &action) != 0) continue;
    if (action.sa_handler == SIG_IGN) signal(number, SIG_DFL);
  }
  signal(SIGXFSZ, SIG_IGN);
  ignore_stray_signals();
  sigset_t pending, blocked;
  sigemptyset(&blocked);
  sigpending(&pending);
  for (int number : {SIGTERM, SIGINT})
    if (sigismember(&pending, number) == 1) sigaddset(&blocked, number);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

}  // namespace

void reset_process_state() {
  hold_standard_streams();
  reset_signals();
  umask(umask(077) & 077);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) inherited_limit = limit.rlim_cur;
}

uint64_t inherited_descriptor_limit() { return inherited_limit; }

}  // namespace millrace
