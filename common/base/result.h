// Operating errors as values, so that each step that can fail shows in the code.
// Errors:  value() of an error, or error() of a value, aborts.
// Threads: immutable
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "common/base/check.h"

namespace millrace {

// Exit codes of all three programs (docs/OPERATIONS.md); an Error carries the one it ends in.
enum class ExitCode {
  ok = 0,
  failed = 1,  // some jobs failed, or the books don't balance
  usage = 64,
  bad_data = 65,
  unavailable = 69,  // the broker can't be reached
  bug = 70,
  cant_create = 73,
  io = 74,
  temporary = 75,  // time-out or back-pressure
  config = 78,
  interrupted = 130,
};

// What went wrong, in one sentence that names the thing, the likely cause and the remedy.
struct Error {
  ExitCode code = ExitCode::bug;
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return check(), std::get<0>(state_); }
  const T& value() const& { return check(), std::get<0>(state_); }
  T&& value() && { return check(), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    MILLRACE_CHECK(!ok());
    return std::get<1>(state_);
  }

 private:
  void check() const { MILLRACE_CHECK(ok()); }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : failed_(true), error_(std::move(error)) {}

  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    MILLRACE_CHECK(failed_);
    return error_;
  }

 private:
  bool failed_ = false;
  Error error_;
};

}  // namespace millrace
