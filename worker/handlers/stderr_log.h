// What a handler's process writes to stderr: lines for our log, and its end for the error text.
// Shape:   bytes → lines, each logged at info with the job's name; tail() is the end of them
// Limits:  kLinesPerJob lines of a job and kLinesPerSecond of a handler are logged, the others only
//          counted; a line is cut at kMaxLine bytes; the tail has kTail bytes
// Threads: StderrLog: one; LineBudget: any
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "common/base/time.h"

namespace millrace::worker {

// How many lines all jobs of one handler may log: one that floods must not drown the others.
class LineBudget {
 public:
  static constexpr int kLinesPerSecond = 100;
  bool take(Mono now);

 private:
  std::mutex lock_;
  Mono second_{};
  int used_ = 0;
};

class StderrLog {
 public:
  static constexpr size_t kLinesPerJob = 20;
  static constexpr size_t kMaxLine = 512;
  static constexpr size_t kTail = 900;  // leaves room in an error of 1,024 bytes

  StderrLog(std::string job, LineBudget& budget) : job_(std::move(job)), budget_(budget) {}

  void add(std::string_view bytes);
  // The last line, if it has no newline, and how much was not logged.
  void finish();
  // Valid UTF-8 without control characters, whatever the process wrote.
  std::string tail() const;

 private:
  void end_line();

  std::string job_;
  LineBudget& budget_;
  std::string line_;
  std::string tail_;
  size_t logged_ = 0;
  uint64_t held_back_ = 0;
};

// Bytes that are no printable UTF-8 become '?', and line ends " | ".
std::string printable(std::string_view bytes);

}  // namespace millrace::worker
