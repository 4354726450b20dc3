// A disk that fails on demand, for a broker that is started with this in LD_PRELOAD: reads, writes
// and syncs of the journal's files fail as the file named by MILLRACE_FAULTS says, from the moment
// that it says so.
// Shape:   lines "read ERRNO", "write ERRNO", "sync ERRNO"; "late-write ERRNO" fails after half of it
//          was written; "slow-read MS" lets each read wait so long first
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool is_journal(int fd) {
  char link[32], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  if (size <= 0) return false;
  path[size] = '\0';
  return std::strstr(path, "/segment-") || std::strstr(path, "/spare-");
}

// 0: all well.
int error_of(const char* operation) {
  const char* faults = std::getenv("MILLRACE_FAULTS");
  FILE* file = faults ? std::fopen(faults, "r") : nullptr;
  if (!file) return 0;
  char word[32];
  int number = 0, found = 0;
  while (std::fscanf(file, "%31s %d", word, &number) == 2)
    if (std::strcmp(word, operation) == 0) found = number;
  std::fclose(file);
  return found;
}

using Pwritev = ssize_t(int, const iovec*, int, off_t);
using Pread = ssize_t(int, void*, size_t, off_t);
using Sync = int(int);
using Fallocate = int(int, int, off_t, off_t);

ssize_t write_parts(const char* name, int fd, const iovec* parts, int count, off_t offset) {
  auto* next = real<Pwritev>(name);
  if (!is_journal(fd)) return next(fd, parts, count, offset);
  if (int error = error_of("late-write")) {
    iovec half{parts[0].iov_base, parts[0].iov_len / 2};
    [[maybe_unused]] ssize_t written = next(fd, &half, 1, offset);
    errno = error;
    return -1;
  }
  if (int error = error_of("write")) return errno = error, -1;
  return next(fd, parts, count, offset);
}

ssize_t read(const char* name, int fd, void* out, size_t size, off_t offset) {
  if (is_journal(fd)) {
    ::usleep(useconds_t(error_of("slow-read")) * 1000);
    if (int error = error_of("read")) return errno = error, -1;
  }
  return real<Pread>(name)(fd, out, size, offset);
}

int sync(const char* name, int fd) {
  if (is_journal(fd))
    if (int error = error_of("sync")) return errno = error, -1;
  return real<Sync>(name)(fd);
}

int allocate(const char* name, int fd, int mode, off_t offset, off_t size) {
  if (is_journal(fd))
    if (int error = error_of("write")) return errno = error, -1;
  return real<Fallocate>(name)(fd, mode, offset, size);
}

}  // namespace

extern "C" {
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return write_parts("pwritev", fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const iovec* parts, int count, off_t offset) {
  return write_parts("pwritev64", fd, parts, count, offset);
}
ssize_t pread(int fd, void* out, size_t size, off_t offset) {
  return read("pread", fd, out, size, offset);
}
ssize_t pread64(int fd, void* out, size_t size, off_t offset) {
  return read("pread64", fd, out, size, offset);
}
int fdatasync(int fd) { return sync("fdatasync", fd); }
int fsync(int fd) { return sync("fsync", fd); }
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return allocate("fallocate", fd, mode, offset, size);
}
int fallocate64(int fd, int mode, off_t offset, off_t size) {
  return allocate("fallocate64", fd, mode, offset, size);
}
}
