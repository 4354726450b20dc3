// A shell command as a child process in a group of its own, with pipes at its three streams, or with
// an input that is complete before the process exists.
// Shape:   spawn() → write stdin, read stdout and stderr, watch exited() → finish()
//          spawn_with_input() → the same without stdin: a sealed memfd holds all of the input, so a
//          parent that is killed can't leave a part of it that looks like the whole
// Errors:  spawn: no descriptors, processes or memory left
// Owns:    the descriptors and the child: the destructor kills what is left of its group and reaps
//          it, so there are no zombies
// Threads: one thread at a time; SIGPIPE must be ignored in this process
// Source:  posix_spawn, since a fork of a process with many threads and a large heap costs
//          milliseconds; a pidfd (Linux 5.3), since the end of a child is not the end of its
//          output: a background process may keep the pipes open
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace millrace::worker {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

class ChildProcess {
 public:
  // `variables` (NAME=value) come on top of this process's environment.
  static Result<ChildProcess> spawn(const std::string& command,
                                    const std::vector<std::string>& variables);
  static Result<ChildProcess> spawn_with_input(const std::string& command,
                                               const std::vector<std::string>& variables,
                                               std::string_view input);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  // Our ends of the pipes; they don't block. Closing stdin is how the child learns of its end; after
  // spawn_with_input() it is closed already.
  UniqueFd stdin_pipe, stdout_pipe, stderr_pipe;
  // Readable once the child has ended.
  int exited_fd() const { return pidfd_.get(); }

  // Kills the group, whatever it does.
  void kill_group();
  // Waits for the end of the child, kills the rest of its group, and returns the wait status.
  int finish();

 private:
  ChildProcess() = default;
  static Result<ChildProcess> start(const std::string& command,
                                    const std::vector<std::string>& variables, int standard_input);

  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

}  // namespace millrace::worker
