#include "worker/process/spawner.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/base/check.h"
#include "common/os/log.h"
#include "common/os/secrets.h"
#include "worker/process/process_tree.h"

namespace millrace::worker {
namespace {

// For a server whose sockets are closed already to be seen as ended.
constexpr int kEndMs = 1000;

void close_all_but(int one, int other) {
  std::vector<int> fds;
  DIR* directory = opendir("/proc/self/fd");
  if (!directory) return;
  while (const dirent* entry = readdir(directory)) fds.push_back(std::atoi(entry->d_name));
  closedir(directory);
  for (int fd : fds)
    if (fd > STDERR_FILENO && fd != one && fd != other) close(fd);
}

int pidfd_of(pid_t process) { return int(syscall(SYS_pidfd_open, process, 0)); }

// In the child, which may have been forked beside other threads: it logs nothing.
[[noreturn]] void guard(FileDescriptor requests, FileDescriptor worker,
                        const SpawnSettings& settings) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  signal(SIGCHLD, SIG_DFL);
  hide_secrets();  // of the program that has this worker inside; also for the server
  close_all_but(requests.get(), worker.get());
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
  prctl(PR_SET_NAME, "millrace-guard");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  setpgid(0, 0);  // a SIGKILL for the worker's group is not meant for this process
  FileDescriptor self(pidfd_of(getpid()));
  const pid_t server = self.is_open() ? fork() : -1;
  if (server == 0) {
    SpawnServer(std::move(requests), std::move(worker), std::move(self), settings).run();
    _exit(0);
  }
  requests.reset();
  int status = 0;
  if (server > 0) waitpid(server, &status, 0);
  kill_descendants();
  _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

ssize_t send_request(int socket, std::string& text, std::array<int, kSpawnFds> fds) {
  iovec data{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fds)> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(header), fds.data(), sizeof fds);
  ssize_t sent;
  while ((sent = sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR) {
  }
  return sent;
}

std::string head_of(const Spawner::Request& request) {
  SpawnHead head;
  head.start_before = request.start_before.count();
  head.memory = request.limits.memory.value_or(0);
  if (request.limits.cpu)
    head.cpu_s = std::chrono::ceil<std::chrono::seconds>(*request.limits.cpu).count();
  head.renews_cpu = request.renews_cpu;
  return {reinterpret_cast<const char*>(&head), sizeof head};
}

bool is_closed(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

}  // namespace

bool is_shortage(int error) {
  for (int known : {EMFILE, ENFILE, EAGAIN, ENOMEM, ENOSPC, EDQUOT, ENOBUFS, ETOOMANYREFS})
    if (error == known) return true;
  return false;
}

Error spawn_error(std::string_view what, int error) {
  if (error == ECANCELED)
    return {ExitCode::unavailable, "this worker was suspended before the command could start"};
  return {is_shortage(error) ? ExitCode::temporary : ExitCode::io,
          fmt::format("can't {}: {}", what, std::strerror(error))};
}

Spawner::~Spawner() {
  std::lock_guard lock(lock_);
  end_server();
}

Result<void> Spawner::start() {
  std::lock_guard lock(lock_);
  return guard_ < 0 ? start_server() : Result<void>();
}

Result<void> Spawner::start_server() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return spawn_error("make a socket for the spawn server", errno);
  FileDescriptor ours(ends[0]), theirs(ends[1]);
  FileDescriptor worker(pidfd_of(getpid()));
  if (!worker.is_open()) return spawn_error("watch this process", errno);
  const pid_t pid = fork();
  if (pid < 0) return spawn_error("start the spawn server", errno);
  if (pid == 0) guard(std::move(theirs), std::move(worker), settings_);
  guard_ = pid;
  ++number_;
  theirs.reset();
  socket_ = std::move(ours);
  ssize_t size;
  while ((size = recv(socket_.get(), &server_, sizeof server_, 0)) < 0 && errno == EINTR) {
  }
  if (size != ssize_t(sizeof server_)) {
    end_server();
    return spawn_error("start the spawn server", EAGAIN);
  }
  watched_ = FileDescriptor(pidfd_of(server_));
  return {};
}

// It ends everything that still runs first.
void Spawner::end_server() {
  socket_ = FileDescriptor();
  if (guard_ < 0) return;
  int status = 0;
  while (waitpid(guard_, &status, 0) < 0 && errno == EINTR) {
  }
  // Without its guard the server has ended everything, and itself; as PID 1 this process reaps it.
  while (WIFSIGNALED(status) && waitpid(server_, nullptr, 0) < 0 && errno == EINTR) {
  }
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
  if (signal != 0)
    log_warning("the spawn server was killed, and the commands that ran with it",
                {{"signal", signal}});
  guard_ = server_ = -1;
}

Result<Spawner::Spawned> Spawner::spawn(const Request& request, std::array<int, 3> streams) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return spawn_error("make a socket for a command", errno);
  FileDescriptor ours(ends[0]), theirs(ends[1]);
  std::string text = head_of(request);
  (text += request.command) += '\0';
  for (const std::string& variable : request.variables) (text += variable) += '\0';
  if (text.size() > kMaxSpawnRequest) return spawn_error("start /bin/sh", E2BIG);
  const std::array<int, kSpawnFds> fds{theirs.get(), streams[0], streams[1], streams[2]};

  std::lock_guard lock(lock_);
  for (bool is_new = false;; is_new = true) {
    if (guard_ < 0) {
      if (auto started = start_server(); !started) return started.error();
    }
    if (send_request(socket_.get(), text, fds) >= 0) return Spawned{std::move(ours), number_};
    if (!is_closed(errno) || is_new) return spawn_error("reach the spawn server", errno);
    end_server();
  }
}

bool Spawner::was_lost(uint64_t server) {
  std::lock_guard lock(lock_);
  if (server != number_ || guard_ < 0 || !watched_.is_open()) return true;
  pollfd end{watched_.get(), POLLIN, 0};
  return poll(&end, 1, kEndMs) > 0;
}

pid_t Spawner::pid() const {
  std::lock_guard lock(lock_);
  return server_;
}

}  // namespace millrace::worker
