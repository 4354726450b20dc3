// Where the payloads of submit come from: the command line, all of stdin, lines, or JSON lines.
// Shape:   lines: the text of each line without its line end is a payload, an empty line an empty
//          one; behind the last line end there is no line
//          items: the same with a NUL byte in place of each line end, so that an item may hold line
//          ends: find -print0
//          NDJSON: lines, of which each must be one JSON value, without a byte order mark, or it is
//          bad_data with its number
// Limits:  kMaxPayload bytes a line
// Errors:  bad_data: a file that can't be read, a line that is not JSON or too long
// Owns:    the file
// Threads: one thread
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace millrace::producer {

class Input {
 public:
  static constexpr size_t kMaxPayload = 128 << 20;
  enum class Form { lines, items, ndjson };

  static Input of(std::string payload);
  // "-" is stdin. A regular file of JSON lines is checked to its end here, so that nothing is sent
  // of one that has a bad line.
  static Result<Input> open(const std::string& path, Form form);
  static Result<Input> all_of_stdin();

  Input(Input&& other) noexcept;
  Input& operator=(Input&&) = delete;
  ~Input();

  enum class Next { payload, later, end };
  // later: nothing is there yet; wait until fd() is readable. Never blocks.
  Result<Next> next(std::string* payload);
  int fd() const { return fd_; }
  // Whether payloads are lines of something, and so have line numbers.
  bool has_lines() const { return fd_ >= 0; }
  // Counts the lines of a regular file, for total(). Before the first next().
  Result<void> count();
  // How many payloads there are, if that is known.
  std::optional<uint64_t> total() const { return total_; }
  const std::string& name() const { return name_; }

 private:
  Input(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  char separator() const { return form_ == Form::items ? '\0' : '\n'; }
  const char* unit() const { return form_ == Form::items ? "item" : "line"; }
  Result<void> check_whole_file();
  Result<void> rewind(off_t to);
  Result<Next> take_line(std::string* payload, size_t end);
  Result<bool> read_more();  // false: nothing is there yet

  int fd_ = -1;
  std::string name_;
  Form form_ = Form::lines;
  std::optional<uint64_t> total_;
  std::string buffer_;
  size_t start_ = 0;    // of the next line, in the buffer
  size_t scanned_ = 0;  // no line end before this
  uint64_t lines_ = 0;
  bool ended_ = false;
};

}  // namespace millrace::producer
