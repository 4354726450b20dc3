// What a worker and its spawn server say to each other; both are of the same build.
// Shape:   worker → server, one SOCK_SEQPACKET socket: a SpawnHead, a command and its variables, each
//          of the texts ended by a NUL byte, and the descriptors of SpawnFd in this order
//          server → worker, the command's control socket: one SpawnReply, once nothing is left of
//          the command, or it could not be started
//          worker → server, the control socket: CommandOrder, any number; closing it is `kill`.
//          One byte answers each renew_cpu
// Limits:  kMaxSpawnRequest bytes; the kernel takes 128 KiB of a command
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::worker {

enum SpawnFd { kControlFd, kStdinFd, kStdoutFd, kStderrFd, kSpawnFds };

inline constexpr size_t kMaxSpawnRequest = 192 << 10;

struct SpawnHead {
  int64_t start_before = 0;  // Boottime; the reply to what comes later is ECANCELED
  int64_t memory = 0;        // bytes of address space of each process; 0: no limit of its own
  int64_t cpu_s = 0;         // CPU time of each process, likewise
  bool renews_cpu = false;   // the limit of CPU time is of one job of several
};

struct SpawnReply {
  int32_t error = 0;   // not started, and errno says why; 0: it ran
  int32_t status = 0;  // as waitpid() has it
};

// renew_cpu: the processes may use their CPU time once more.
enum class CommandOrder : char { terminate, kill, renew_cpu };

}  // namespace millrace::worker
