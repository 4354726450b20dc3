// millrace-producer load: submissions at a rate, whatever the answers do (an open loop), and what
// became of each of them.
// Shape:   a table, or one JSON object with the keys that docs and scripts rely on
// Errors:  failed: jobs lost or dead, or books that don't balance; temporary: answers are missing at
//          the time-out; interrupted
// Threads: one thread
#pragma once

#include <optional>
#include <string>

#include "common/command.h"
#include "common/curve.h"
#include "common/protocol/messages.h"

namespace millrace::producer {

struct LoadFlags {
  Endpoint broker;
  Millis connect_timeout{};
  CurveFlags curve;
  std::string queue;
  std::optional<double> rate;
  Millis duration{};
  int64_t count = 0;
  int64_t size = 0;
  protocol::Report report = protocol::Report::outcome;
  bool no_wait = false;
  bool verify = false;
  bool hold = false;
  int64_t window = 0;
  int64_t max_attempts = 0;
  std::string ledger;
  Millis timeout{};
  bool json = false;
  bool quiet = false;
};

void declare_load(Command& command, LoadFlags& flags);
Result<ExitCode> run_load(const LoadFlags& flags);

}  // namespace millrace::producer
