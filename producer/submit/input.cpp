#include "producer/submit/input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace millrace::producer {
namespace {

constexpr size_t kReadSize = 256 << 10;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_regular(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

// What is wrong with a line that has to be JSON, or nothing. The library skips a byte order mark,
// but in the payload it would stay, and JSON has none (RFC 8259, section 8.1).
std::string json_fault(std::string_view line) {
  if (line.starts_with(kByteOrderMark))
    return "is not a JSON value: it begins with a byte order mark";
  if (nlohmann::json::accept(line)) return "";
  return line.empty() ? "is not a JSON value but empty" : "is not a JSON value";
}

bool readable_now(int fd) {
  pollfd item{fd, POLLIN, 0};
  return ::poll(&item, 1, 0) > 0;
}

}  // namespace

Input Input::of(std::string payload) {
  Input input(-1, "the command line");
  input.buffer_ = std::move(payload);
  input.total_ = 1;
  return input;
}

Result<Input> Input::open(const std::string& path, Form form) {
  bool is_stdin = path == "-";
  int fd = is_stdin ? dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string name = is_stdin ? "stdin" : path;
  if (fd < 0) {
    return Error{ExitCode::bad_data,
                 fmt::format("can't read {}: {}; is the name right, and may you read it?", name,
                             std::strerror(errno))};
  }
  Input input(fd, name);
  input.form_ = form;
  if (form == Form::ndjson && is_regular(fd)) {
    if (auto checked = input.check_whole_file(); !checked) return checked.error();
  }
  return input;
}

Result<Input> Input::all_of_stdin() {
  Input whole(dup(STDIN_FILENO), "stdin");
  while (!whole.ended_) {
    pollfd item{whole.fd_, POLLIN, 0};
    ::poll(&item, 1, -1);
    if (auto more = whole.read_more(); !more) return more.error();
  }
  return of(std::move(whole.buffer_));
}

Input::Input(Input&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      name_(std::move(other.name_)),
      form_(other.form_),
      total_(other.total_),
      buffer_(std::move(other.buffer_)),
      start_(other.start_),
      scanned_(other.scanned_),
      lines_(other.lines_),
      ended_(other.ended_) {}

Input::~Input() {
  if (fd_ >= 0) close(fd_);
}

Result<Input::Next> Input::next(std::string* payload) {
  if (fd_ < 0) {
    if (std::exchange(ended_, true)) return Next::end;
    *payload = std::move(buffer_);
    return Next::payload;
  }
  for (;;) {
    size_t end = buffer_.find(separator(), scanned_);
    if (end != std::string::npos) return take_line(payload, end);
    scanned_ = buffer_.size();
    if (ended_) return start_ < buffer_.size() ? take_line(payload, buffer_.size()) : Next::end;
    auto more = read_more();
    if (!more) return more.error();
    if (!*more) return Next::later;
  }
}

Result<Input::Next> Input::take_line(std::string* payload, size_t end) {
  ++lines_;
  payload->assign(buffer_, start_, end - start_);
  start_ = scanned_ = std::min(end + 1, buffer_.size());
  if (form_ != Form::ndjson) return Next::payload;
  if (payload->ends_with('\r')) payload->pop_back();  // no part of a JSON value
  const std::string fault = json_fault(*payload);
  if (fault.empty()) return Next::payload;
  return Error{ExitCode::bad_data, fmt::format("{} line {} {}", name_, lines_, fault)};
}

Result<bool> Input::read_more() {
  if (!readable_now(fd_)) return false;
  buffer_.erase(0, start_);
  scanned_ -= std::min(scanned_, start_);
  start_ = 0;
  if (buffer_.size() > kMaxPayload) {
    return Error{ExitCode::bad_data,
                 fmt::format("{} {} {} is longer than {} bytes, more than a payload can be", name_,
                             unit(), lines_ + 1, kMaxPayload)};
  }
  size_t size = buffer_.size();
  buffer_.resize(size + kReadSize);
  ssize_t got = read(fd_, buffer_.data() + size, kReadSize);
  buffer_.resize(size + size_t(std::max<ssize_t>(got, 0)));
  if (got < 0 && errno != EINTR && errno != EAGAIN) {
    return Error{ExitCode::bad_data, fmt::format("can't read {}: {}", name_, std::strerror(errno))};
  }
  ended_ = got == 0;
  return got >= 0;
}

Result<void> Input::check_whole_file() {
  off_t begin = lseek(fd_, 0, SEEK_CUR);
  std::string payload;
  for (;;) {
    auto got = next(&payload);
    if (!got) return Error{got.error().code, got.error().message + "; nothing was sent"};
    if (*got == Next::end) break;
  }
  total_ = std::exchange(lines_, 0);
  ended_ = false;
  buffer_.clear();
  start_ = scanned_ = 0;
  return rewind(begin);
}

Result<void> Input::rewind(off_t to) {
  if (lseek(fd_, to, SEEK_SET) >= 0) return {};
  return Error{ExitCode::bad_data,
               fmt::format("can't read {} twice: {}", name_, std::strerror(errno))};
}

Result<void> Input::count() {
  if (total_ || fd_ < 0 || !is_regular(fd_)) return {};
  const off_t begin = lseek(fd_, 0, SEEK_CUR);
  std::string part(kReadSize, '\0');
  uint64_t lines = 0;
  char last = separator();
  for (ssize_t got; (got = read(fd_, part.data(), part.size())) > 0; last = part[size_t(got) - 1])
    lines += uint64_t(std::count(part.begin(), part.begin() + got, separator()));
  total_ = lines + (last != separator());
  return rewind(begin);
}

}  // namespace millrace::producer
