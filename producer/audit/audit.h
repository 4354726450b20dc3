// millrace-producer audit: do the ledgers of producers and the broker's state agree?
// Shape:   ledgers and a broker → a table or one JSON object; exit 0 when the totals reconcile
// Errors:  bad_data: a ledger can't be read; unavailable: the broker can't
// Threads: one thread
#pragma once

#include <string>
#include <vector>

#include "common/cli/command.h"
#include "common/net/curve.h"
#include "producer/client/client.h"

namespace millrace::producer {

struct AuditFlags {
  std::vector<std::string> ledgers;
  std::vector<Endpoint> brokers;
  Millis connect_timeout{};
  CurveFlags curve;
  Millis timeout{};
  bool json = false;
  bool quiet = false;
};

void declare_audit(Command& command, AuditFlags& flags);
Result<ExitCode> run_audit(const AuditFlags& flags);

}  // namespace millrace::producer
