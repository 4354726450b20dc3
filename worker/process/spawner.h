// The worker's side of its spawn server: starts it, hands it commands, and starts another one when
// it has been killed. Between the two is the guard, the server's parent, which does nothing but end
// what a server that was killed has left behind.
// Shape:   start() before the first thread → spawn() → a control socket: readable once nothing is left
//          of the command (spawn_protocol.h); was_lost() tells a killed server from a refused command
// Errors:  start(): temporary, no process left; spawn(): temporary where this host is short of
//          something, io otherwise
// Owns:    the server: the destructor, or the end of this process, ends it and all its commands
// Threads: internally locked
#pragma once

#include <sys/types.h>

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/os/file_descriptor.h"
#include "worker/process/boottime.h"
#include "worker/process/spawn_server.h"

namespace millrace::worker {

// Errors of a host that is short of descriptors, processes, memory or disk.
bool is_shortage(int error);
Error spawn_error(std::string_view what, int error);

// Of each process of a command, as setrlimit() has it: RLIMIT_AS in bytes, RLIMIT_CPU in whole
// seconds, rounded up.
struct CommandLimits {
  std::optional<int64_t> memory;
  std::optional<Millis> cpu;
};

class Spawner {
 public:
  explicit Spawner(SpawnSettings settings = {}) : settings_(settings) {}
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;
  ~Spawner();

  // Does nothing when it has been called before.
  Result<void> start();

  // What one command is to be.
  struct Request {
    const std::string& command;
    const std::vector<std::string>& variables;  // NAME=value
    CommandLimits limits{};
    bool renews_cpu = false;  // the limit of CPU time is of a job, and the command runs several
    Boottime start_before = kNoDeadline;
  };
  struct Spawned {
    FileDescriptor control;
    uint64_t server = 0;  // which one
  };
  // `streams` are the command's; they can be closed afterwards.
  Result<Spawned> spawn(const Request& request, std::array<int, 3> streams);
  // When a control socket was closed without a reply: whether its server had been killed.
  bool was_lost(uint64_t server);

  pid_t pid() const;  // of the server
  Millis kill_after() const { return settings_.kill_after; }

 private:
  Result<void> start_server();
  void end_server();

  const SpawnSettings settings_;
  mutable std::mutex lock_;  // of all below
  FileDescriptor socket_, watched_;
  pid_t guard_ = -1, server_ = -1;
  uint64_t number_ = 0;
};

}  // namespace millrace::worker
