#include "producer/client/append_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace millrace::producer {
namespace {

constexpr size_t kPart = 64 << 10;  // of the search for the last line's end

}  // namespace

Result<AppendFile> AppendFile::open(std::string what, std::string path, std::string_view start) {
  const int fd = ::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  AppendFile file(fd, std::move(what), std::move(path));
  if (fd < 0) {
    return file.failure(ExitCode::cant_create, "can't open",
                        "does its directory exist, may you write there?");
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return file.failure(ExitCode::cant_create, "can't lock",
                        "another producer is writing it: use a file for each");
  }
  if (auto ours = file.check_start(start); !ours) return ours.error();
  if (auto dropped = file.drop_torn_line(); !dropped) return dropped.error();
  return file;
}

Result<void> AppendFile::repair(std::string what, const std::string& path, std::string_view start) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  auto file = open(std::move(what), path, start);
  if (!file) return file.error();
  return {};
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      what_(std::move(other.what_)),
      path_(std::move(other.path_)),
      empty_(other.empty_) {}

AppendFile::~AppendFile() {
  if (fd_ >= 0) close(fd_);
}

// A crash may have left a part of the start.
Result<void> AppendFile::check_start(std::string_view start) {
  struct stat status {};
  if (fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::string found(start.size(), '\0');
  const ssize_t got = pread(fd_, found.data(), found.size(), 0);
  found.resize(size_t(std::max<ssize_t>(got, 0)));
  if (start.starts_with(found)) return {};
  return Error{ExitCode::bad_data,
               fmt::format("{} {}: the existing file has other content and was not changed; give "
                           "another file name",
                           what_, path_)};
}

Result<void> AppendFile::drop_torn_line() {
  const off_t size = lseek(fd_, 0, SEEK_END);
  off_t keep = size;
  std::string part(kPart, '\0');
  while (keep > 0) {
    const off_t from = keep - std::min<off_t>(keep, kPart);
    const ssize_t got = pread(fd_, part.data(), size_t(keep - from), from);
    if (got != keep - from) break;
    const size_t end = std::string_view(part).substr(0, size_t(got)).rfind('\n');
    keep = end == std::string_view::npos ? from : from + off_t(end) + 1;
    if (end != std::string_view::npos) break;
  }
  if (size < 0 || (keep < size && ftruncate(fd_, keep) != 0)) {
    return failure(ExitCode::io, "can't drop its unfinished last line", "is it a regular file?");
  }
  empty_ = keep == 0;
  return {};
}

Result<void> AppendFile::write(std::string_view lines) {
  while (!lines.empty()) {
    ssize_t written = ::write(fd_, lines.data(), lines.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      return failure(ExitCode::io, "can't write", "nothing more was sent; free some space there");
    }
    lines.remove_prefix(size_t(written));
  }
  return {};
}

Result<void> AppendFile::sync() {
  if (fdatasync(fd_) == 0 || errno == EINVAL || errno == EROFS) return {};
  return failure(ExitCode::io, "can't sync", "look at its disk");
}

Error AppendFile::failure(ExitCode code, std::string_view said, std::string_view remedy) const {
  return {code, fmt::format("{} {}: {}: {}; {}", what_, path_, said, std::strerror(errno), remedy)};
}

}  // namespace millrace::producer
