// A file of lines that is only ever appended to, by one process at a time, and that a crash or a
// full disk can leave with half a line at its end at most: the next open() drops it. A new one can
// be read by its owner only, for payloads and results are nobody else's.
// Errors:  cant_create when it can't be opened or another process has it; bad_data when it is another
//          kind of file, which is then not changed; io when it can't be written
// Owns:    the file and its lock
// Threads: one thread
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace millrace::producer {

class AppendFile {
 public:
  // `what` names its kind in errors: "ledger". Unless it is empty, it begins with `start`.
  static Result<AppendFile> open(std::string what, std::string path, std::string_view start);
  // Drops half a line at the end of a regular file, if there is one. Anything else, such as a pipe,
  // is left as it is.
  static Result<void> repair(std::string what, const std::string& path, std::string_view start);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  ~AppendFile();

  bool empty() const { return empty_; }  // when it was opened
  Result<void> write(std::string_view lines);
  // What was written is on disk. Of a pipe, which has none, nothing is asked.
  Result<void> sync();

 private:
  AppendFile(int fd, std::string what, std::string path)
      : fd_(fd), what_(std::move(what)), path_(std::move(path)) {}
  Result<void> check_start(std::string_view start);
  Result<void> drop_torn_line();
  Error failure(ExitCode code, std::string_view said, std::string_view remedy) const;

  int fd_;
  std::string what_;
  std::string path_;
  bool empty_ = true;
};

}  // namespace millrace::producer
