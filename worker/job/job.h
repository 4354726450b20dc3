// What travels between the session, the pool and the handlers: a leased job one way, its end back.
// Owns:    a job keeps the frame that its payload lies in alive; payloads are never copied
// Threads: values; the frame's count is atomic, its bytes are never written
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/time.h"
#include "common/protocol/messages.h"

namespace millrace::worker {

using FramePtr = std::shared_ptr<const void>;

// Which of the brokers that the worker demands from: two of them use the same numbers of jobs.
using Source = uint16_t;

struct Job {
  protocol::Lease lease;
  std::string_view payload;
  FramePtr frame;
  uint64_t max_result = 0;  // bytes
  uint64_t attempt = 0;     // from 1
  BrokerId broker;
  uint16_t queue = 0;           // index into the worker's subscriptions
  std::string_view queue_name;  // in the frame, as the payload
  bool wants_result = false;
  Source source = 0;
  Mono waits_since{};  // of the pool: when it came there
};

// How an attempt ended, in the handler's words.
struct Completion {
  // Two go back, and nothing is charged. released: it did not run, since this host is short of
  // something; too_late: it was not started in time, and may be another worker's by now.
  enum class Kind : uint8_t { done, retryable, permanent, crash, released, too_late };

  Kind kind = Kind::done;
  std::string text;  // the result, or the error

  bool goes_back() const { return kind == Kind::released || kind == Kind::too_late; }

  static Completion done(std::string result) { return {Kind::done, std::move(result)}; }
  static Completion failed(Kind kind, std::string error) { return {kind, std::move(error)}; }
};

struct Finished {
  protocol::Lease lease;
  Completion completion;
  std::chrono::nanoseconds run{0};
  std::chrono::nanoseconds wait{0};  // for a thread
  Source source = 0;
};

}  // namespace millrace::worker
