// A shell command as a process group of its own, with pipes at its three streams, or with an input
// that is complete before the process exists.
// Shape:   spawn() → write stdin, read stdout and stderr, watch ended_fd() → finish()
//          with an input there is no stdin to write: a pipe without a writer holds all of it, or a
//          sealed memfd what no pipe does, so a parent that is killed can't leave a part of it that
//          looks like the whole
// Limits:  the last kReserved descriptors that the process may have are not for commands: libzmq ends
//          the process where it gets none for a connection
// Errors:  spawn: as Spawner's; finish() may still tell that nothing was started
// Owns:    the descriptors and the command: the destructor kills it and waits for its end. The
//          spawner must outlive it
// Threads: one thread at a time; SIGPIPE must be ignored in this process
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/os/file_descriptor.h"
#include "worker/process/spawner.h"
#include "worker/process/stop_signal.h"

namespace millrace::worker {

class ChildProcess {
 public:
  static constexpr uint64_t kReserved = 24;

  ChildProcess(ChildProcess&&) noexcept = default;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  // The request's variables come on top of the worker's environment. Without a descriptor for
  // `stop` nothing is started.
  static Result<ChildProcess> spawn(Spawner& spawner, const StopSignal::Watch& stop,
                                    const Spawner::Request& request,
                                    std::optional<std::string_view> input = std::nullopt);

  // Our ends of the pipes; they don't block. Closing stdin is how the child learns of its end; with
  // an input it is closed already, and the outputs end with finish(), not before.
  FileDescriptor stdin_pipe, stdout_pipe, stderr_pipe;
  // Readable once the command has ended, and nothing is left of it.
  int ended_fd() const { return control_.get(); }
  bool has_ended() const;

  // SIGTERM for all that belongs to it, and SIGKILL for what is left the spawner's kill_after
  // later.
  void terminate() { order(CommandOrder::terminate); }
  void kill() { order(CommandOrder::kill); }
  // Where the request said so: its processes may use their CPU time once more. False if it has
  // ended.
  bool renew_cpu();

  struct End {
    enum class Kind { exited, refused, lost };
    Kind kind = Kind::exited;
    int status = 0;  // exited: as waitpid() has it
    Error why;       // refused: it was not started
  };
  // Waits for the end. Once.
  End finish();

 private:
  explicit ChildProcess(Spawner& spawner) : spawner_(&spawner) {}
  void order(CommandOrder order);

  Spawner* spawner_;
  FileDescriptor control_;
  // The child's ends of its outputs. Without them each output would wake the reader once more at
  // its end, shortly before ended_fd() does.
  FileDescriptor child_stdout_, child_stderr_;
  uint64_t server_ = 0;
};

}  // namespace millrace::worker
