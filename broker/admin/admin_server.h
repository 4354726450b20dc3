// The broker's HTTP server: dashboard, status, metrics, operations (routes.h says what is where).
// Limits:  those of common/http/server.h; bodies of kMaxBody
// Errors:  config (78): an address beyond loopback without a token; cant_create (73)
// Owns:    the server and its thread; the snapshots and the mailbox must outlive it
// Threads: one starts and stops it
#pragma once

#include <memory>

#include "broker/admin/routes.h"
#include "common/cli/command.h"
#include "common/http/server.h"
#include "common/base/units.h"

namespace millrace::admin {

inline constexpr size_t kMaxBody = 64 << 10;  // of an operation: some settings
inline constexpr uint16_t kHttpPort = 5580;   // unless another is given

struct AdminOptions {
  Endpoint http{"127.0.0.1", kHttpPort};
  std::string token;
  size_t max_connections = http::Limits{}.connections;
};

// Declares --http and --http-token, which name the same things for a broker and its clients.
void add_http_flags(Command& command, AdminOptions& options);

class AdminServer {
 public:
  static Result<std::unique_ptr<AdminServer>> start(const AdminOptions& options,
                                                    Snapshots& snapshots, Mailbox& mailbox);

  // Ends all waiting for the core, and the thread. The core must not be publishing for its sake.
  void stop();
  uint16_t port() const { return server_->port(); }
  ~AdminServer() { stop(); }

 private:
  AdminServer(const AdminOptions& options, Snapshots& snapshots, Mailbox& mailbox)
      : snapshots_(snapshots), mailbox_(mailbox), routes_(snapshots, mailbox, options.token) {}

  Snapshots& snapshots_;
  Mailbox& mailbox_;
  Routes routes_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace millrace::admin
