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
  command.group("Connection");
  command.value("--broker", brokers, parse, "HOST[:5570][,...]",
                "frontend of the broker; with several brokers, each submission goes to one of them",
                "127.0.0.1:5570");
}

inline void declare_brokers(Command& command, std::vector<Endpoint>& brokers,
                            Millis& connect_timeout) {
  declare_broker_addresses(command, brokers);
  command.duration("--connect-timeout", connect_timeout,
                   "maximum wait for the first answer of a broker", "10s");
}

inline void declare_spool(Command& command, std::string& directory, int64_t& size) {
  command.group("Spool");
  command.text("--spool", directory, "DIR",
               "local directory that stores submissions while the broker is unreachable; they are "
               "forwarded when it is back");
  command.size("--spool-size", size, "maximum size of the spool", "1GiB", 1 << 20);
}

inline Result<std::string> parse_queue(std::string_view text) {
  if (protocol::valid_queue_name(text)) return std::string(text);
  return Error{ExitCode::usage,
               "'" + std::string(text) +
                   "' is not a queue's name, which is 1 to 128 of A-Z a-z 0-9 . _ : -"};
}

inline void declare_queue(Command& command, std::string& queue) {
  command.value("--queue", queue, parse_queue, "NAME", "queue of the jobs");
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
