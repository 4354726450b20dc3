// The process whose children the commands of handlers are. It outlives its worker by a moment, so
// that nothing of a command does; and whatever a command has left behind becomes its child, so that
// it is found, ended and reaped, also where the worker is PID 1 of a container.
// Shape:   requests (spawn_protocol.h) → /bin/sh -c COMMAND, or the program itself where COMMAND is
//          nothing but words, leader of a process group of its own
//          1. A child of this process is the leader of a command, or was left behind by one: then it
//             ends with its command, also if it has made a session of its own. It is recognized by
//             kCommandVariable, its group or its session; one that shows none of them is ended when
//             all commands that ran when it was seen first have ended.
//          2. A command that is to stop gets SIGTERM, all of it, and SIGKILL after kill_after. What a
//             command that ends by itself leaves behind is killed at once. Its reply comes when
//             nothing is left of it.
//          3. Once the worker or the guard has ended, everything is killed and this process ends.
//          4. When this process is killed, the kernel kills the leaders (PR_SET_PDEATHSIG), and the
//             guard, its parent, what they leave behind (spawner.cpp).
// Limits:  a process that becomes another user's, or that the kernel can't end, is left alone
// Threads: one; SIGTERM and the like are blocked here, since they mean the worker
// Source:  prctl(2), PR_SET_CHILD_SUBREAPER. A control group would know all processes of a command,
//          but a worker is seldom allowed to make one. A minder as the worker's parent would take
//          the worker's place under whoever starts and stops it; the worker itself as subreaper
//          can't clean up behind its own SIGKILL.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/time.h"
#include "common/os/file_descriptor.h"
#include "worker/process/process_tree.h"
#include "worker/process/spawn_protocol.h"
#include "worker/process/start_command.h"

namespace millrace::worker {

struct SpawnSettings {
  Millis kill_after{5000};
};

// In the environment of each command: which one it is.
inline constexpr std::string_view kCommandVariable = "MILLRACE_COMMAND_ID";

class SpawnServer {
 public:
  // In a process of its own, right after fork(): takes over its signals and descriptors.
  // `worker` and `guard` are readable once these have ended.
  SpawnServer(FileDescriptor requests, FileDescriptor worker, FileDescriptor guard,
              const SpawnSettings& settings);

  // Says its process ID, as the first message, and serves until the worker or the guard has ended.
  void run();

 private:
  struct Command {
    enum class State { running, stopping, killed };
    pid_t leader = -1;
    FileDescriptor control;
    State state = State::running;
    std::optional<int> status;  // once the leader has ended
    Mono kill_at{};             // while stopping
    int64_t cpu_s = 0;          // of each job; 0: no limit to renew
    std::set<pid_t> signalled;  // one that ends can't be asked any more whose it is
  };
  using Commands = std::map<uint64_t, Command>;  // by serial number, so the oldest first

  // A child that is no leader.
  struct Adopted {
    std::optional<uint64_t> command;
    uint64_t newest = 0;  // command when it was seen first
  };

  bool receive();
  void start(std::string_view request, std::vector<FileDescriptor> fds);
  std::vector<ResourceLimit> limits_of(const SpawnHead& head) const;
  void on_control(uint64_t serial);
  void renew_cpu(const Command& command);
  void stop(Commands::iterator command);
  void kill_now(Commands::iterator command);
  void signal_all(Commands::value_type& command, int signal);
  void on_deadlines(Mono now);
  int until_deadline(Mono now) const;

  void reap();
  void on_leader_ended(Commands::iterator command);
  // Ends what has no running command, and replies to the commands of which nothing is left.
  void sweep();
  void finish_all_but(const std::set<uint64_t>& alive);
  const Adopted& adopted(pid_t process);
  std::optional<uint64_t> command_of(pid_t process) const;

  FileDescriptor requests_, worker_, guard_, signals_, events_;
  const OwnChildren children_;
  const SpawnSettings settings_;
  std::vector<std::string> environment_;  // of commands, without what a request adds
  std::vector<char> buffer_;
  uint64_t last_serial_;
  Commands commands_;
  std::map<pid_t, uint64_t> leaders_;  // that have not been reaped
  std::map<pid_t, uint64_t> groups_;   // a number stays taken as long as its group has members
  std::map<pid_t, Adopted> adopted_;
};

}  // namespace millrace::worker
