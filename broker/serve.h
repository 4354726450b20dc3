// `millrace-broker serve`: its flags, and the life of the process around the server's loop.
// Errors:  78 for a combination that must not run (beyond loopback without keys), else the exit
//          code of what failed
// Threads: run() owns the core thread (its caller), and starts and joins the HTTP thread
#pragma once

#include "broker/admin/admin_server.h"
#include "broker/server/server.h"
#include "common/cli/options.h"

namespace millrace {

struct ServeOptions {
  Endpoint frontend{"127.0.0.1", 5570};
  Endpoint backend{"127.0.0.1", 5571};
  admin::AdminOptions admin;
  bool insecure = false;
  std::string curve_key, curve_allow;
  server::ServerOptions server;
  MillisRange backoff;
  std::string fsync;
  int64_t max_attempts = 0, crash_limit = 0, max_job_size = 0, max_queued = 0, memory = 0,
          disk_reserve = 0, liveness = 0;
  int64_t max_queues = 0, max_queued_per_producer = 0, submit_rate_per_producer = 0;
  int64_t max_connections = 0;
  int64_t send_buffer = 0, send_buffer_total = 0;
  int64_t max_memory = 0, key_memory = 0, result_memory = 0;
};

void add_serve_command(Options& options, ServeOptions& serve);

}  // namespace millrace
