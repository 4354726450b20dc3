// Reading and writing a child's pipes, which don't block.
// Threads: one for each descriptor
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "common/os/file_descriptor.h"

namespace millrace::worker {

inline constexpr size_t kReadSize = 64 << 10;  // what a pipe holds by default
inline constexpr int kReadsPerTurn = 16;       // then the other streams have their turn

// Takes what is there; closes the pipe when the other side has.
template <typename Take>
void read_some(FileDescriptor& pipe, Take&& take) {
  std::array<char, kReadSize> buffer;
  for (int i = 0; i < kReadsPerTurn && pipe.is_open(); ++i) {
    ssize_t size = read(pipe.get(), buffer.data(), buffer.size());
    if (size > 0) {
      take(std::string_view(buffer.data(), size_t(size)));
    } else if (size == 0) {
      pipe.reset();
    } else if (errno != EINTR) {
      return;
    }
  }
}

// Writes what goes, and takes it off the front; false when nobody reads any more.
inline bool write_some(FileDescriptor& pipe, std::string_view* bytes) {
  ssize_t written = write(pipe.get(), bytes->data(), bytes->size());
  if (written > 0) bytes->remove_prefix(size_t(written));
  return written >= 0 || errno == EAGAIN || errno == EINTR;
}

}  // namespace millrace::worker
