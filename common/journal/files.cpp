#include "common/journal/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "common/base/check.h"
#include "common/os/file_descriptor.h"

namespace millrace::journal {
namespace {

std::error_code last_error() { return {errno, std::system_category()}; }
std::error_code check(int result) { return result == 0 ? std::error_code() : last_error(); }

// 0, or the errno that tells what this is instead of a regular file. Nothing is opened to find out:
// a device can do anything when it is.
int is_regular(mode_t mode) {
  if (S_ISREG(mode)) return 0;
  if (S_ISLNK(mode)) return ELOOP;
  if (S_ISDIR(mode)) return EISDIR;
  if (S_ISFIFO(mode)) return ESPIPE;
  return S_ISSOCK(mode) ? ENXIO : ENOTSUP;
}

// Opens a regular file and nothing else: a symbolic link would lead elsewhere, a FIFO would wait
// for a writer. Payloads are for their owner only, also where an older release left a file that
// others can read. -1: errno says why.
int open_regular(int directory, const char* name, int flags) {
  constexpr int kSafe = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  constexpr mode_t kOwner = 0600;
  struct stat info {};
  const bool is_there = ::fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_there && (errno = is_regular(info.st_mode)) != 0) return -1;
  FileDescriptor fd(
      uninterrupted([&] { return ::openat(directory, name, flags | kSafe, kOwner); }));
  if (!fd.is_open() || ::fstat(fd.get(), &info) != 0) return -1;
  if ((errno = is_regular(info.st_mode)) != 0) return -1;
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (writes && (info.st_mode & 077) != 0) (void)::fchmod(fd.get(), kOwner);  // ours, or so be it
  return fd.release();
}

// Why a file of the directory can't be used, for people.
std::string reason(std::error_code error) {
  const char* kind = error.value() == ELOOP     ? "a symbolic link"
                     : error.value() == EISDIR  ? "a directory"
                     : error.value() == ESPIPE  ? "a FIFO"
                     : error.value() == ENXIO   ? "a socket"
                     : error.value() == ENOTSUP ? "a device"
                                                : nullptr;
  if (!kind) return error.message();
  return fmt::format("it is {}, not a regular file: move it out of the directory", kind);
}

class RealFile final : public File {
 public:
  explicit RealFile(FileDescriptor fd) : fd_(std::move(fd)) {}

  std::error_code write(std::span<const std::string_view> parts, uint64_t offset) override {
    std::vector<iovec> vectors;
    vectors.reserve(parts.size());
    for (std::string_view part : parts) {
      if (!part.empty()) vectors.push_back({const_cast<char*>(part.data()), part.size()});
    }
    return write_all(vectors, offset);
  }

  std::error_code sync() override {
    if (uninterrupted([&] { return ::fdatasync(fd_.get()); }) != 0) return last_error();
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return last_error();
    return info.st_nlink > 0 ? std::error_code()
                             : std::make_error_code(std::errc::no_such_file_or_directory);
  }

  std::error_code read(uint64_t offset, size_t size, char* out, size_t* got) override {
    *got = 0;
    while (*got < size) {
      ssize_t count = ::pread(fd_.get(), out + *got, size - *got, off_t(offset + *got));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return last_error();
      if (count == 0) break;
      *got += size_t(count);
    }
    return {};
  }

  std::error_code allocate(uint64_t size) override {
    uint64_t before = 0;
    if (auto error = this->size(&before)) return error;
    if (uninterrupted([&] { return ::fallocate(fd_.get(), 0, 0, off_t(size)); }) == 0) return {};
    auto error = last_error();
    if (auto failed = truncate(before)) return failed;
    return error;
  }

  std::error_code truncate(uint64_t size) override {
    return check(uninterrupted([&] { return ::ftruncate(fd_.get(), off_t(size)); }));
  }

  std::error_code size(uint64_t* bytes) override {
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return last_error();
    *bytes = uint64_t(info.st_size);
    return {};
  }

 private:
  std::error_code write_all(std::vector<iovec>& vectors, uint64_t offset) {
    size_t first = 0;
    while (first < vectors.size()) {
      size_t count = std::min<size_t>(vectors.size() - first, IOV_MAX);
      ssize_t written = ::pwritev(fd_.get(), vectors.data() + first, int(count), off_t(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return last_error();
      if (written == 0) return std::make_error_code(std::errc::io_error);
      offset += uint64_t(written);
      for (size_t left = size_t(written); left > 0;) {
        iovec& part = vectors[first];
        size_t taken = std::min(left, part.iov_len);
        part.iov_base = static_cast<char*>(part.iov_base) + taken;
        part.iov_len -= taken;
        left -= taken;
        if (part.iov_len == 0) ++first;
      }
    }
    return {};
  }

  FileDescriptor fd_;
};

class RealDirectory final : public Directory {
 public:
  // `mode` is O_RDWR or O_RDONLY.
  RealDirectory(std::string path, FileDescriptor fd, FileDescriptor lock, int mode,
                const Terms& terms)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        lock_(std::move(lock)),
        mode_(mode),
        terms_(terms) {}

  const std::string& path() const override { return path_; }
  const Terms& terms() const override { return terms_; }

  std::error_code list(std::vector<std::string>* names) override {
    std::error_code error;
    for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end;
         it.increment(error))
      names->push_back(it->path().filename().string());
    return error;
  }

  Opened open(const std::string& name) override { return open_with(name, 0); }
  Opened create(const std::string& name) override {
    MILLRACE_CHECK(mode_ == O_RDWR);
    return open_with(name, O_CREAT | O_TRUNC);
  }

  std::error_code rename(const std::string& from, const std::string& to) override {
    MILLRACE_CHECK(mode_ == O_RDWR);
    return check(::renameat(fd_.get(), from.c_str(), fd_.get(), to.c_str()));
  }
  std::error_code remove(const std::string& name) override {
    MILLRACE_CHECK(mode_ == O_RDWR);
    return check(::unlinkat(fd_.get(), name.c_str(), 0));
  }
  std::error_code sync() override {
    return check(uninterrupted([&] { return ::fsync(fd_.get()); }));
  }

  uint64_t free_bytes() override {
    struct statvfs info {};
    return ::fstatvfs(fd_.get(), &info) == 0 ? uint64_t(info.f_bavail) * info.f_frsize : 0;
  }

 private:
  Opened open_with(const std::string& name, int flags) {
    FileDescriptor fd(open_regular(fd_.get(), name.c_str(), mode_ | flags));
    if (!fd.is_open()) return {last_error(), nullptr};
    return {{}, std::make_unique<RealFile>(std::move(fd))};
  }

  std::string path_;
  FileDescriptor fd_;
  FileDescriptor lock_;  // the lock lasts as long as this is open
  const int mode_;
  const Terms terms_;
};

Error cant_create(std::string message) { return {ExitCode::cant_create, std::move(message)}; }

std::string holder_of(int lock) {
  char text[300] = {};
  ssize_t size = ::pread(lock, text, sizeof text - 1, 0);
  std::string holder(text, size > 0 ? size_t(size) : 0);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return holder.empty() ? "another process" : holder;
}

Result<FileDescriptor> take_lock(const std::string& path, int directory, const Terms& terms) {
  FileDescriptor lock(open_regular(directory, "LOCK", O_RDWR | O_CREAT));
  if (!lock.is_open() && errno == EISDIR)
    return cant_create(fmt::format("{}/LOCK is a directory, not a file: remove it", path));
  if (!lock.is_open() && (errno == ELOOP || errno == ESPIPE || errno == ENXIO || errno == ENOTSUP))
    return cant_create(fmt::format("{}/LOCK can't be used: {}", path, reason(last_error())));
  struct stat info {};
  if (lock.is_open() && ::fstat(lock.get(), &info) == 0 && info.st_nlink > 1)
    return cant_create(fmt::format(
        "{}/LOCK is a hard link to another file, which would be overwritten: remove LOCK", path));
  if (!lock.is_open()) {
    return cant_create(
        fmt::format("{} is not writable ({}): grant this user write permission, or choose "
                    "another {} directory",
                    path, last_error().message(), terms.option));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return cant_create(fmt::format("{}/LOCK can't be locked: {}", path, last_error().message()));
    if (::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) {
      return cant_create(
          fmt::format("{} is being read by a 'millrace-broker journal' command: wait until it has "
                      "finished, or stop it",
                      path));
    }
    return cant_create(
        fmt::format("{} is in use by {}: stop that {}, or choose another {} directory", path,
                    holder_of(lock.get()), terms.program, terms.option));
  }
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  std::string holder = fmt::format("pid {} on host {}\n", ::getpid(), host);
  // Only a help for people: a full disk must not keep the broker from its journal.
  [[maybe_unused]] bool told =
      ::ftruncate(lock.get(), 0) == 0 &&
      ::pwrite(lock.get(), holder.data(), holder.size(), 0) == ssize_t(holder.size());
  return lock;
}

// A new directory's own entry must be as durable as what will stand in it.
std::error_code sync_parent(int directory) {
  FileDescriptor fd(::openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.is_open() ? check(::fsync(fd.get())) : last_error();
}

}  // namespace

std::string how_to_salvage(const Directory& directory) {
  return fmt::format(fmt::runtime(directory.terms().salvage), directory.path());
}

Result<std::unique_ptr<Directory>> open_directory(const std::string& path, const Terms& terms) {
  bool made = ::mkdir(path.c_str(), 0700) == 0;
  if (!made && errno == ENOENT) {
    return cant_create(fmt::format(
        "{} can't be created, because its parent directory does not exist: create that first",
        path));
  }
  if (!made && errno != EEXIST)
    return cant_create(fmt::format("{} can't be created: {}", path, last_error().message()));
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.is_open() && errno == ENOTDIR) {
    return cant_create(
        fmt::format("{} is a file where a directory is needed: choose another {} directory", path,
                    terms.option));
  }
  if (!fd.is_open())
    return cant_create(fmt::format("{} can't be opened: {}", path, last_error().message()));
  struct stat info {};
  if (::fstat(fd.get(), &info) == 0 && (info.st_mode & S_IWOTH) != 0) {
    return Error{ExitCode::config,
                 fmt::format("{} can be written by every user, who could replace the journal: "
                             "'chmod o-w {}', or choose another {} directory",
                             path, path, terms.option)};
  }
  if (made) {
    if (auto error = sync_parent(fd.get())) {
      return Error{ExitCode::io, fmt::format("the parent directory of {} can't be synced: {}", path,
                                             error.message())};
    }
  }
  auto lock = take_lock(path, fd.get(), terms);
  if (!lock) return lock.error();
  return std::unique_ptr<Directory>(
      std::make_unique<RealDirectory>(path, std::move(fd), std::move(*lock), O_RDWR, terms));
}

Result<std::unique_ptr<Directory>> open_directory_to_read(const std::string& path,
                                                          const Terms& terms) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.is_open()) {
    const bool is_none = errno == ENOENT || errno == ENOTDIR;
    return Error{is_none ? ExitCode::bad_data : ExitCode::io,
                 fmt::format("{} can't be opened: {}; give the --data directory of a broker", path,
                             last_error().message())};
  }
  // No broker has been where there is no LOCK, or it was left out of a copy.
  FileDescriptor lock(open_regular(fd.get(), "LOCK", O_RDONLY));
  if (lock.is_open() && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return cant_create(fmt::format(
        "{} is in use by {}: stop that broker first, or look at a snapshot of the file system; "
        "'millrace-broker status' and 'job' show what a running broker has",
        path, holder_of(lock.get())));
  }
  return std::unique_ptr<Directory>(
      std::make_unique<RealDirectory>(path, std::move(fd), std::move(lock), O_RDONLY, terms));
}

std::error_code sync_directory_above(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.is_open() ? sync_parent(fd.get()) : last_error();
}

Error file_error(const Directory& directory, std::string_view name, std::string_view what,
                 std::error_code error) {
  return {ExitCode::io,
          fmt::format("{}/{} can't be {}: {}", directory.path(), name, what, reason(error))};
}

}  // namespace millrace::journal
