// The broker's HTTP server: dashboard, status, metrics, operations (routes.h says what is where).
// Limits:  those of common/http/server.h; bodies of kMaxBody
// Errors:  config (78): an address beyond loopback without a token; cant_create (73)
// Owns:    the server and its thread; the publisher and the AdminQueue must outlive it
// Threads: one starts and stops it
#pragma once

#include <memory>

#include "broker/admin/routes.h"
#include "common/base/units.h"
#include "common/cli/command.h"
#include "common/http/server.h"

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
                                                    StatusPublisher& publisher,
                                                    AdminQueue& admin_queue);

  // Ends all waiting for the core, and the thread. The core must not be publishing for its sake.
  void stop();
  uint16_t port() const { return server_->port(); }
  ~AdminServer() { stop(); }

 private:
  AdminServer(const AdminOptions& options, StatusPublisher& publisher, AdminQueue& admin_queue)
      : publisher_(publisher),
        admin_queue_(admin_queue),
        routes_(publisher, admin_queue, options.token) {}

  StatusPublisher& publisher_;
  AdminQueue& admin_queue_;
  Routes routes_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace millrace::admin
