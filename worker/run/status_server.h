// The worker's status over HTTP, for people and scripts on this machine, and the command that asks
// for it.
// Shape:   GET /v1/status: one JSON object (docs/OPERATIONS.md); GET /healthz: 200. The status is not
//          for web pages of other sites: 403 (common/http/access.h)
// Errors:  cant_create (73)
// Owns:    the server; the supervisor must outlive stop()
// Threads: one starts and stops it
#pragma once

#include <memory>

#include "common/base/time.h"
#include "common/cli/options.h"
#include "common/http/server.h"
#include "worker/run/supervisor.h"

namespace millrace::worker {

class StatusServer {
 public:
  explicit StatusServer(const Supervisor& supervisor) : supervisor_(supervisor) {}
  ~StatusServer() { stop(); }

  // Does nothing without options.http.
  Result<void> start(const RunOptions& options);
  void stop();

 private:
  const Supervisor& supervisor_;
  Mono started_ = read_clock();
  std::unique_ptr<http::Server> server_;
};

// As /v1/status has it.
std::string status_json(const std::vector<ExecutorStatus>& executors, Millis uptime);

void add_status_command(Options& options);

}  // namespace millrace::worker
