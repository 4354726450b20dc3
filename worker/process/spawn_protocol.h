// What a worker and its spawn server say to each other; both are of the same build.
// Shape:   worker → server, one SOCK_SEQPACKET socket: a command and its variables, each ended by a
//          NUL byte, and the descriptors of SpawnFd in this order
//          server → worker, the command's control socket: one SpawnReply, once nothing is left of
//          the command, or it could not be started
//          worker → server, the control socket: StopOrder, any number; closing it is `kill`
// Limits:  kMaxSpawnRequest bytes; the kernel takes 128 KiB of a command
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::worker {

enum SpawnFd { kControlFd, kStdinFd, kStdoutFd, kStderrFd, kSpawnFds };

inline constexpr size_t kMaxSpawnRequest = 192 << 10;

struct SpawnReply {
  int32_t error = 0;   // not started, and errno says why; 0: it ran
  int32_t status = 0;  // as waitpid() has it
};

enum class StopOrder : char { terminate, kill };

}  // namespace millrace::worker
