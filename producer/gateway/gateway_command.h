// millrace-producer gateway: submissions by HTTP (docs/GATEWAY.md).
// Errors:  config: an address beyond loopback without a token, a token that others can read;
//          cant_create: the address; what ends the broker's connection for good
// Threads: one thread
#pragma once

#include "common/cli/command.h"
#include "common/net/curve.h"
#include "producer/gateway/gateway.h"

namespace millrace::producer {

struct GatewayFlags {
  std::vector<Endpoint> brokers;
  std::string spool;
  int64_t spool_size = 0;
  CurveFlags curve;
  Endpoint http;
  std::string token_file;
  int64_t max_body = 0, max_batch_body = 0, body_memory = 0;
  int64_t max_connections = 0;
  Millis request_timeout{}, idle_timeout{}, answer_timeout{}, max_wait{}, drain_timeout{};
  int64_t max_pending = 0, pending_memory = 0;
};

void declare_gateway(Command& command, GatewayFlags& flags);
Result<ExitCode> run_gateway(const GatewayFlags& flags);

}  // namespace millrace::producer
