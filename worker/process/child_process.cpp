#include "worker/process/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/base/check.h"

namespace millrace::worker {
namespace {

constexpr size_t kPipeSize = 64 << 10;  // by default

struct Pipe {
  FileDescriptor read, write;
};

// The two ends are separate files, so the child's end goes on blocking.
void make_nonblocking(const FileDescriptor& fd) {
  MILLRACE_CHECK(fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0);
}

Result<Pipe> make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return spawn_error("make a pipe", errno);
  return Pipe{FileDescriptor(fds[0]), FileDescriptor(fds[1])};
}

// A pipe that holds all of the input and has no writer any more; not open where it has too little
// room: a user with many pipes gets small ones.
Result<FileDescriptor> filled_pipe(std::string_view input) {
  auto pipe = make_pipe();
  if (!pipe) return pipe.error();
  make_nonblocking(pipe->write);
  const ssize_t written = input.empty() ? 0 : write(pipe->write.get(), input.data(), input.size());
  return written == ssize_t(input.size()) ? std::move(pipe->read) : FileDescriptor();
}

// A file in memory that holds the input and can't change any more, at its beginning.
Result<FileDescriptor> sealed_file(std::string_view input) {
  FileDescriptor file(memfd_create("millrace-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open()) return spawn_error("make a file for a payload", errno);
  for (std::string_view rest = input; !rest.empty();) {
    const ssize_t written = write(file.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return spawn_error("write a payload into memory", errno);
    rest.remove_prefix(size_t(written));
  }
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
  if (fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) return spawn_error("seal a payload", errno);
  if (lseek(file.get(), 0, SEEK_SET) != 0) return spawn_error("rewind a payload", errno);
  return file;
}

Result<FileDescriptor> complete_input(std::string_view input) {
  if (input.size() <= kPipeSize) {
    auto pipe = filled_pipe(input);
    if (!pipe || pipe->is_open()) return pipe;
  }
  return sealed_file(input);
}

// The kernel gives out the lowest numbers first.
bool is_reserved(const FileDescriptor& newest) {
  rlimit files{};
  return getrlimit(RLIMIT_NOFILE, &files) == 0 &&
         rlim_t(newest.get()) + ChildProcess::kReserved >= files.rlim_cur;
}

}  // namespace

Result<ChildProcess> ChildProcess::spawn(Spawner& spawner, const StopSignal::Watch& stop,
                                         const Spawner::Request& request,
                                         std::optional<std::string_view> input) {
  ChildProcess child(spawner);
  if (stop.fd() < 0) return spawn_error("watch for a stop", EMFILE);
  FileDescriptor standard_input;
  if (input) {
    auto complete = complete_input(*input);
    if (!complete) return complete.error();
    standard_input = *std::move(complete);
  } else {
    auto in = make_pipe();
    if (!in) return in.error();
    standard_input = std::move(in->read);
    child.stdin_pipe = std::move(in->write);
    make_nonblocking(child.stdin_pipe);
  }
  auto out = make_pipe();
  if (!out) return out.error();
  auto err = make_pipe();
  if (!err) return err.error();
  if (is_reserved(err->write)) return spawn_error("make a pipe", EMFILE);
  auto spawned = spawner.spawn(request, {standard_input.get(), out->write.get(), err->write.get()});
  if (!spawned) return spawned.error();
  child.control_ = std::move(spawned->control);
  child.server_ = spawned->server;
  child.stdout_pipe = std::move(out->read);
  child.stderr_pipe = std::move(err->read);
  if (input) {
    child.child_stdout_ = std::move(out->write);
    child.child_stderr_ = std::move(err->write);
  }
  make_nonblocking(child.stdout_pipe);
  make_nonblocking(child.stderr_pipe);
  return child;
}

ChildProcess::~ChildProcess() {
  if (!control_.is_open()) return;
  kill();
  finish();
}

bool ChildProcess::has_ended() const {
  pollfd end{control_.get(), POLLIN, 0};
  return poll(&end, 1, 0) > 0;
}

// Whether it arrives or not: it ends, or has ended.
void ChildProcess::order(CommandOrder order) {
  send(control_.get(), &order, sizeof order, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool ChildProcess::renew_cpu() {
  order(CommandOrder::renew_cpu);
  SpawnReply reply;
  ssize_t size;
  while ((size = recv(control_.get(), &reply, sizeof reply, MSG_PEEK)) < 0 && errno == EINTR) {
  }
  if (size != 1) return false;  // the last reply stays for finish()
  recv(control_.get(), &reply, sizeof reply, 0);
  return true;
}

ChildProcess::End ChildProcess::finish() {
  SpawnReply reply;
  ssize_t size;
  while ((size = recv(control_.get(), &reply, sizeof reply, 0)) < 0 && errno == EINTR) {
  }
  control_.reset();
  child_stdout_.reset();
  child_stderr_.reset();
  if (size == ssize_t(sizeof reply)) {
    if (reply.error == 0) return {End::Kind::exited, reply.status, {}};
    return {End::Kind::refused, 0, spawn_error("start /bin/sh", reply.error)};
  }
  if (spawner_->was_lost(server_)) return {End::Kind::lost, 0, {}};
  return {End::Kind::refused, 0, spawn_error("start /bin/sh", EMFILE)};
}

}  // namespace millrace::worker
