// millrace-producer load: submissions at a rate, whatever the answers do (an open loop), and what
// became of each of them.
// Shape:   a table, or one JSON object with the keys that docs and scripts rely on; a row a second
//          with --csv, a picture with --plot (docs/PRODUCER.md)
// Errors:  failed: jobs lost or dead, or books that don't balance; temporary: answers are missing at
//          the time-out; unavailable: no broker, or no gnuplot for the picture; interrupted
// Threads: a thread for each of --clients, and the caller's, which watches them
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/cli/command.h"
#include "common/net/curve.h"
#include "common/protocol/messages.h"
#include "producer/load/mix.h"
#include "producer/load/rate.h"

namespace millrace::producer {

struct LoadFlags {
  std::vector<Endpoint> brokers;
  Millis connect_timeout{};
  CurveFlags curve;
  std::optional<std::string> queue;
  std::optional<QueueMix> queue_mix;
  Rate rate;
  Millis duration{};
  Millis warm_up{};
  int64_t count = 0;
  SizeMix size = SizeMix::of(256);
  int64_t clients = 1;
  protocol::Report report = protocol::Report::outcome;
  bool no_wait = false;
  bool verify = false;
  bool hold = false;
  int64_t window = 0;
  int64_t max_attempts = 0;
  std::string ledger;
  std::string csv;
  std::string plot;
  Millis timeout{};
  bool json = false;
  bool quiet = false;

  bool waits() const { return !no_wait && report != protocol::Report::none; }
};

void declare_load(Command& command, LoadFlags& flags);
Result<ExitCode> run_load(const LoadFlags& flags);

}  // namespace millrace::producer
