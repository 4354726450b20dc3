#include "worker/handlers/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "common/check.h"
#include "common/process_state.h"

namespace millrace::worker {
namespace {

Error failed(std::string_view what, int error) {
  return {ExitCode::io, fmt::format("can't {}: {}", what, std::strerror(error))};
}

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return failed("make a pipe", errno);
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// A file in memory that holds the input and can't change any more, at its beginning.
Result<UniqueFd> sealed_file(std::string_view input) {
  UniqueFd file(memfd_create("millrace-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open()) return failed("make a file for a payload", errno);
  for (std::string_view rest = input; !rest.empty();) {
    const ssize_t written = write(file.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("write a payload into memory", errno);
    rest.remove_prefix(size_t(written));
  }
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
  if (fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) return failed("seal a payload", errno);
  if (lseek(file.get(), 0, SEEK_SET) != 0) return failed("rewind a payload", errno);
  return file;
}

// The two ends are separate files, so the child's end goes on blocking.
void make_nonblocking(const UniqueFd& fd) {
  MILLRACE_CHECK(fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0);
}

// Descriptors and signals of the child.
class SpawnPlan {
 public:
  SpawnPlan(int in, int out, int err) {
    posix_spawn_file_actions_init(&files_);
    posix_spawn_file_actions_adddup2(&files_, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files_, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files_, err, STDERR_FILENO);
#if __GLIBC_PREREQ(2, 34)
    // Ours are all close-on-exec; this is for those that a library has opened without.
    posix_spawn_file_actions_addclosefrom_np(&files_, STDERR_FILENO + 1);
#endif
    posix_spawnattr_init(&attributes_);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&files_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  int spawn(pid_t* pid, char* const* arguments, char* const* environment) const {
    return posix_spawn(pid, "/bin/sh", &files_, &attributes_, arguments, environment);
  }

 private:
  posix_spawn_file_actions_t files_;
  posix_spawnattr_t attributes_;
};

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<char*> environment_with(const std::vector<std::string>& variables) {
  std::vector<char*> environment;
  for (char** at = environ; *at; ++at) {
    bool replaced = false;
    for (const std::string& variable : variables) replaced |= name_of(*at) == name_of(variable);
    if (!replaced) environment.push_back(*at);
  }
  for (const std::string& variable : variables)
    environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  return environment;
}

// The worker has raised its own limit of open files; commands get the one that it inherited: some
// close all descriptors up to it, or use select(), which ends at 1024.
std::string with_inherited_limit(const std::string& command) {
  const uint64_t inherited = inherited_descriptor_limit();
  rlimit now{};
  if (getrlimit(RLIMIT_NOFILE, &now) != 0 || inherited == 0 || now.rlim_cur <= inherited)
    return command;
  return fmt::format("ulimit -S -n {}; {}", inherited, command);
}

}  // namespace

void UniqueFd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Result<ChildProcess> ChildProcess::spawn(const std::string& command,
                                         const std::vector<std::string>& variables) {
  auto in = make_pipe();
  if (!in) return in.error();
  auto child = start(command, variables, in->read.get());
  if (!child) return child.error();
  child->stdin_pipe = std::move(in->write);
  make_nonblocking(child->stdin_pipe);
  return child;
}

Result<ChildProcess> ChildProcess::spawn_with_input(const std::string& command,
                                                    const std::vector<std::string>& variables,
                                                    std::string_view input) {
  auto file = sealed_file(input);
  if (!file) return file.error();
  return start(command, variables, file->get());
}

Result<ChildProcess> ChildProcess::start(const std::string& command,
                                         const std::vector<std::string>& variables,
                                         int standard_input) {
  auto out = make_pipe();
  if (!out) return out.error();
  auto err = make_pipe();
  if (!err) return err.error();

  SpawnPlan plan(standard_input, out->write.get(), err->write.get());
  std::vector<char*> environment = environment_with(variables);
  char name[] = "sh", flag[] = "-c";
  std::string text = with_inherited_limit(command);
  char* arguments[] = {name, flag, text.data(), nullptr};
  ChildProcess child;
  if (int error = plan.spawn(&child.pid_, arguments, environment.data()); error != 0) {
    child.pid_ = -1;
    return failed("start /bin/sh", error);
  }
  child.pidfd_ = UniqueFd(int(syscall(SYS_pidfd_open, child.pid_, 0)));  // close-on-exec by itself
  if (!child.pidfd_.is_open()) return failed("watch a child process", errno);
  child.stdout_pipe = std::move(out->read);
  child.stderr_pipe = std::move(err->read);
  make_nonblocking(child.stdout_pipe);
  make_nonblocking(child.stderr_pipe);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : stdin_pipe(std::move(other.stdin_pipe)),
      stdout_pipe(std::move(other.stdout_pipe)),
      stderr_pipe(std::move(other.stderr_pipe)),
      pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)) {}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  kill_group();
  finish();
}

// The number of the group can't be given to another one before its leader has been reaped.
void ChildProcess::kill_group() { kill(-pid_, SIGKILL); }

int ChildProcess::finish() {
  siginfo_t info;
  while (waitid(P_PID, id_t(pid_), &info, WEXITED | WNOWAIT) != 0) MILLRACE_CHECK(errno == EINTR);
  kill_group();
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0) MILLRACE_CHECK(errno == EINTR);
  pid_ = -1;
  return status;
}

}  // namespace millrace::worker
