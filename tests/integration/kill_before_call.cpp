// Kills or stops a worker or its spawn server just before a system call of its choice, for a worker
// that is started with this in LD_PRELOAD.
// Shape:   MILLRACE_KILL="TRIGGER VICTIM N FILE SIGNAL": before the N-th call of TRIGGER (worker or
//          server) from the moment that it has its first command, VICTIM (worker or server) gets the
//          signal: SIGKILL or SIGSTOP, by number. FILE is made first, with the victim's process ID;
//          once it is there, no further signal is sent.
//          Calls: what a command's start, input, end and stop are made of
// Limits:  a worker is only killed by the server's calls or its own, a server by its own
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

char trigger[16], victim[16], file[4096];
long moment = 0;  // 0: not one of our programs
int signal_number = 0;
pid_t worker = 0;
std::atomic<pid_t> server{0};
std::atomic<bool> has_command{false};
std::atomic<long> calls{0};

[[gnu::constructor]] void read_order() {
  const char* order = std::getenv("MILLRACE_KILL");
  if (!order || std::strcmp(program_invocation_short_name, "millrace-worker") != 0) return;
  if (std::sscanf(order, "%15s %15s %ld %4095s %d", trigger, victim, &moment, file,
                  &signal_number) != 5)
    std::abort();
  worker = getpid();
}

// The server's child until it executes its command counts as the server, whose memory it shares.
bool is_trigger() {
  const bool is_worker = getpid() == worker;
  if (std::strcmp(trigger, "worker") == 0) return is_worker;
  char name[16] = "";
  ::prctl(PR_GET_NAME, name);
  if (is_worker || std::strcmp(name, "millrace-spawn") != 0) return false;
  pid_t none = 0;
  server.compare_exchange_strong(none, getpid());
  return true;
}

void before_call(bool is_first_of_command = false) {
  if (moment == 0 || !is_trigger()) return;
  if (is_first_of_command) has_command = true;
  if (!has_command || ++calls != moment) return;
  const int mark = ::open(file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (mark < 0) return;
  const pid_t target = std::strcmp(victim, "worker") == 0 ? worker : server.load();
  ::dprintf(mark, "%d\n", target);
  ::close(mark);
  ::syscall(SYS_kill, target, signal_number);
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
extern "C" {

int pipe2(int* fds, int flags) noexcept {
  before_call(true);
  return real<int(int*, int)>("pipe2")(fds, flags);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  before_call(true);
  return real<ssize_t(int, msghdr*, int)>("recvmsg")(fd, message, flags);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  before_call();
  return real<ssize_t(int, const msghdr*, int)>("sendmsg")(fd, message, flags);
}

ssize_t send(int fd, const void* data, size_t size, int flags) {
  before_call();
  return real<ssize_t(int, const void*, size_t, int)>("send")(fd, data, size, flags);
}

ssize_t recv(int fd, void* data, size_t size, int flags) {
  before_call();
  return real<ssize_t(int, void*, size_t, int)>("recv")(fd, data, size, flags);
}

ssize_t write(int fd, const void* data, size_t size) {
  before_call();
  return real<ssize_t(int, const void*, size_t)>("write")(fd, data, size);
}

int memfd_create(const char* name, unsigned flags) noexcept {
  before_call();
  return real<int(const char*, unsigned)>("memfd_create")(name, flags);
}

int socketpair(int domain, int type, int protocol, int* fds) noexcept {
  before_call();
  return real<int(int, int, int, int*)>("socketpair")(domain, type, protocol, fds);
}

int fcntl(int fd, int command, ...) {
  before_call();
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return real<int(int, int, ...)>("fcntl")(fd, command, argument);
}

int clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept {
  before_call();
  using Clone = int(int (*)(void*), void*, int, void*, ...);
  return real<Clone>("clone")(function, stack, flags, argument);
}

int setpgid(pid_t process, pid_t group) noexcept {
  before_call();
  return real<int(pid_t, pid_t)>("setpgid")(process, group);
}

int dup2(int from, int to) noexcept {
  before_call();
  return real<int(int, int)>("dup2")(from, to);
}

int execve(const char* program, char* const* arguments, char* const* environment) noexcept {
  before_call();
  return real<int(const char*, char* const*, char* const*)>("execve")(program, arguments,
                                                                      environment);
}

int execvpe(const char* program, char* const* arguments, char* const* environment) noexcept {
  before_call();
  return real<int(const char*, char* const*, char* const*)>("execvpe")(program, arguments,
                                                                       environment);
}

int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  before_call();
  return real<int(idtype_t, id_t, siginfo_t*, int)>("waitid")(type, id, info, options);
}

pid_t waitpid(pid_t process, int* status, int options) {
  before_call();
  return real<pid_t(pid_t, int*, int)>("waitpid")(process, status, options);
}

int kill(pid_t process, int signal) noexcept {
  before_call();
  return real<int(pid_t, int)>("kill")(process, signal);
}

}  // extern "C"
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
