// millrace-producer forward: gives the brokers what lies in a spool, and submits nothing new.
// Shape:   progress on stderr; stdout: with --json one object: forwarded, rejected, left
// Errors:  unavailable: no broker; temporary: the time-out; bad_data: brokers will never take some of
//          it (now in rejected.ndjson); those of the spool
// Threads: one thread
#pragma once

#include <string>
#include <vector>

#include "common/cli/command.h"
#include "common/net/curve.h"

namespace millrace::producer {

struct ForwardFlags {
  std::vector<Endpoint> brokers;
  Millis connect_timeout{};
  CurveFlags curve;
  std::string spool;
  Millis timeout{};
  bool json = false;
  bool quiet = false;
};

void declare_forward(Command& command, ForwardFlags& flags);
Result<ExitCode> run_forward(const ForwardFlags& flags);

}  // namespace millrace::producer
