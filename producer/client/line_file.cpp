#include "producer/client/line_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace millrace::producer {
namespace {

constexpr size_t kReadSize = 256 << 10;

Error cant_read(const std::string& what, const std::string& path) {
  return {ExitCode::bad_data,
          fmt::format("{} {}: can't read: {}; is the name right, may you read it?", what, path,
                      std::strerror(errno))};
}

}  // namespace

Result<LineFile> LineFile::open(std::string path, Form form) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return cant_read(form.what, path);
  return LineFile(std::move(file), std::move(path), std::move(form));
}

Result<bool> LineFile::next(std::string_view* line) {
  for (;;) {
    const size_t end = buffer_.find('\n', scanned_);
    const size_t size = std::min(end, buffer_.size()) - start_;
    is_cut_ = size > form_.longest;
    if (is_cut_ && !form_.cuts) {
      ++number_;
      return fault(fmt::format("longer than {} bytes", form_.longest));
    }
    if (end != std::string::npos) {
      ++number_;
      *line = std::string_view(buffer_).substr(start_, std::min(size, form_.longest));
      start_ = scanned_ = end + 1;
      return true;
    }
    if (is_cut_) buffer_.resize(start_ + form_.longest + 1);  // of the rest, only its end matters
    scanned_ = buffer_.size();
    auto more = read_more();
    if (!more || !*more) return more;
  }
}

Result<bool> LineFile::read_more() {
  buffer_.erase(0, start_);
  scanned_ -= start_;
  start_ = 0;
  const size_t size = buffer_.size();
  buffer_.resize(size + kReadSize);
  const ssize_t got =
      uninterrupted([&] { return read(file_.get(), buffer_.data() + size, kReadSize); });
  buffer_.resize(size + size_t(std::max<ssize_t>(got, 0)));
  if (got < 0) return cant_read(form_.what, path_);
  return got > 0;
}

Error LineFile::fault(std::string_view why) const {
  return {ExitCode::bad_data,
          fmt::format("{} {} line {}: {}; {}", form_.what, path_, number_, why, form_.remedy)};
}

}  // namespace millrace::producer
