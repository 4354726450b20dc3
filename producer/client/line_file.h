// Reads a file of lines that an AppendFile wrote. It may be another file that was named by mistake,
// so a line has a maximum.
// Shape:   whole lines, without their ends; half a line at the end, left by a crash, is not given
// Limits:  `longest` bytes of a line; a longer one is an error, or is cut there
// Errors:  bad_data: can't be opened or read; a line that is too long, named by file and number
// Owns:    the file
// Threads: one thread
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/os/file_descriptor.h"

namespace millrace::producer {

class LineFile {
 public:
  struct Form {
    std::string what;    // its kind in errors: "ledger"
    std::string remedy;  // for a line that is none
    size_t longest = 64 << 10;
    bool cuts = false;  // longer lines, instead of failing
  };
  static Result<LineFile> open(std::string path, Form form);
  // Valid until the next call; false at the end.
  Result<bool> next(std::string_view* line);
  uint64_t number() const { return number_; }  // of the last line, from 1
  bool is_cut() const { return is_cut_; }      // the last line
  // Of the last line.
  Error fault(std::string_view why) const;

 private:
  LineFile(FileDescriptor file, std::string path, Form form)
      : file_(std::move(file)), path_(std::move(path)), form_(std::move(form)) {}
  Result<bool> read_more();

  FileDescriptor file_;
  std::string path_;
  Form form_;
  std::string buffer_;
  size_t start_ = 0;    // of the next line in buffer_
  size_t scanned_ = 0;  // no line ends before
  uint64_t number_ = 0;
  bool is_cut_ = false;
};

}  // namespace millrace::producer
