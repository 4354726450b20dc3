// Bytes of a file that may be sparse: where it has zeros, they take no memory.
// Shape:   resize() → all zeros; what is read into it piece by piece is given back if it is zeros
// Owns:    a mapping, from one resize() to the next
// Threads: one
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace millrace::journal {

class SparseBuffer {
 public:
  SparseBuffer() = default;
  SparseBuffer(const SparseBuffer&) = delete;
  SparseBuffer& operator=(const SparseBuffer&) = delete;
  ~SparseBuffer() { release(); }

  // False: there is no memory for so many. The mapping is kept for the next file where it is large
  // enough, since fresh pages cost as much as the reading.
  [[nodiscard]] bool resize(size_t size) {
    if (size > mapped_ || mapped_ > kKept) {
      release();
      void* memory = ::mmap(nullptr, std::max<size_t>(size, 1), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) return false;
      data_ = static_cast<char*>(memory);
      mapped_ = std::max<size_t>(size, 1);
    }
    size_ = size;
    return true;
  }
  char* data() { return data_; }
  std::string_view view() const { return {data_, size_}; }
  void cut(size_t size) { size_ = std::min(size_, size); }

  // `at` is a multiple of a page's size.
  void drop_if_zero(size_t at, size_t size) {
    const char* piece = data_ + at;
    if (size > 1 && piece[0] == 0 && std::memcmp(piece, piece + 1, size - 1) == 0)
      ::madvise(data_ + at, size, MADV_DONTNEED);
  }

 private:
  static constexpr size_t kKept = 128 << 20;

  void release() {
    if (data_) ::munmap(data_, mapped_);
    data_ = nullptr;
    mapped_ = size_ = 0;
  }

  char* data_ = nullptr;
  size_t mapped_ = 0, size_ = 0;
};

}  // namespace millrace::journal
