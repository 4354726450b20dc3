// Flags that the producer's commands share.
#pragma once

#include <algorithm>

#include "common/command.h"
#include "producer/client.h"

namespace millrace::producer {

inline void declare_broker_address(Command& command, Endpoint& broker) {
  auto parse = [](std::string_view text) -> Result<Endpoint> {
    auto endpoints = parse_endpoints(text, kFrontendPort);
    if (!endpoints) return endpoints.error();
    if (endpoints->size() != 1) return Error{ExitCode::usage, "one broker is wanted, not a list"};
    return endpoints->front();
  };
  command.value("--broker", broker, parse, "HOST[:5570]", "the broker's frontend",
                "127.0.0.1:5570");
}

inline void declare_broker(Command& command, Endpoint& broker, Millis& connect_timeout) {
  declare_broker_address(command, broker);
  command.duration("--connect-timeout", connect_timeout,
                   "longest wait for the broker's first answer", "10s");
}

inline Result<std::string> parse_queue(std::string_view text) {
  if (protocol::valid_queue_name(text)) return std::string(text);
  return Error{ExitCode::usage,
               "'" + std::string(text) +
                   "' is not a queue's name, which is 1 to 128 of A-Z a-z 0-9 . _ : -"};
}

inline void declare_queue(Command& command, std::string& queue) {
  command.value("--queue", queue, parse_queue, "NAME", "the queue that the jobs go to");
  command.require("--queue");
}

// The broker's first answer is waited for no longer than for everything. 0 is for ever.
inline Millis first_answer_timeout(Millis connect_timeout, Millis timeout) {
  return timeout > Millis(0) ? std::min(connect_timeout, timeout) : connect_timeout;
}

// 0 is for ever, and so is more than the clock can count.
inline Mono deadline_after(Millis timeout) {
  constexpr Millis kForever = std::chrono::hours(24 * 365);
  if (timeout <= Millis(0) || timeout >= kForever) return Mono::max();
  return std::chrono::steady_clock::now() + timeout;
}

}  // namespace millrace::producer
