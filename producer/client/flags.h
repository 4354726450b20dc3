// Flags that the producer's commands share.
#pragma once

#include <algorithm>

#include "common/base/time.h"
#include "common/cli/command.h"
#include "producer/client/client.h"

namespace millrace::producer {

inline void declare_broker_addresses(Command& command, std::vector<Endpoint>& brokers) {
  auto parse = [](std::string_view text) -> Result<std::vector<Endpoint>> {
    auto endpoints = parse_endpoints(text, kFrontendPort);
    if (!endpoints) return endpoints;
    for (size_t i = 0; i < endpoints->size(); ++i)
      for (size_t other = 0; other < i; ++other)
        if ((*endpoints)[i] == (*endpoints)[other])
          return Error{ExitCode::usage, "'" + (*endpoints)[i].authority() + "' is there twice"};
    return endpoints;
  };
  command.value("--broker", brokers, parse, "HOST[:5570][,...]",
                "the broker's frontend; of several brokers each submission goes to one",
                "127.0.0.1:5570");
}

inline void declare_brokers(Command& command, std::vector<Endpoint>& brokers,
                            Millis& connect_timeout) {
  declare_broker_addresses(command, brokers);
  command.duration("--connect-timeout", connect_timeout,
                   "longest wait for the broker's first answer", "10s");
}

inline void declare_spool(Command& command, std::string& directory, int64_t& size) {
  command.text("--spool", directory, "DIR",
               "a directory on this machine's disk for what comes while the broker is away; it is "
               "forwarded when it is back");
  command.size("--spool-size", size, "most bytes of submissions in it", "1GiB", 1 << 20);
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
  return read_clock() + timeout;
}

}  // namespace millrace::producer
