// The answers on one connection, as far as counting them needs: where one ends, its status, and
// whether the connection ends with it.
// Limits:  64 KiB of header, 16 MiB of body; no chunked bodies: the servers under test send none
// Errors:  bad: not HTTP/1.1 with a Content-Length
// Threads: one
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace::load {

class AnswerReader {
 public:
  enum class State { more, whole, bad };

  // After `whole`, the next call begins a new answer.
  State feed(std::string_view bytes);
  // Of the last whole one.
  int status() const { return status_; }
  bool closes() const { return closes_; }
  // Part of an answer, or more than one, has come.
  bool empty() const { return held_.empty(); }

 private:
  State read_header();

  std::string held_;
  size_t body_left_ = 0;
  bool in_body_ = false;
  int status_ = 0;
  bool closes_ = false;
};

}  // namespace millrace::load
