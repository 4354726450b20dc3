#include "broker/admin/admin_server.h"

#include <fmt/format.h>

#include "common/os/log.h"

namespace millrace::admin {
namespace {

Error token_needed(const Endpoint& http) {
  return {
      ExitCode::config,
      fmt::format("--http {} can be reached from other machines, so a token is needed: set "
                  "--http-token (better by MILLRACE_HTTP_TOKEN or the configuration file, which "
                  "other users can't see), or use --http 127.0.0.1:{}",
                  http.authority(), http.port)};
}

}  // namespace

void add_http_flags(Command& command, AdminOptions& options) {
  command.group("HTTP");
  command.endpoint("--http", options.http,
                   "address of the broker's HTTP API, metrics and dashboard", "127.0.0.1:5580");
  command.text("--http-token", options.token, "TOKEN",
               "secret that HTTP requests must carry; required beyond loopback");
}

Result<std::unique_ptr<AdminServer>> AdminServer::start(const AdminOptions& options,
                                                        StatusPublisher& publisher,
                                                        AdminQueue& admin_queue) {
  if (!options.http.loopback() && options.token.empty()) return token_needed(options.http);
  std::unique_ptr<AdminServer> admin(new AdminServer(options, publisher, admin_queue));
  http::ServerOptions where;
  where.address = options.http;
  where.limits.body_bytes = kMaxBody;
  where.limits.refusals = options.max_connections / 4;
  where.limits.connections = options.max_connections - where.limits.refusals;
  auto started = http::Server::start(
      where,
      [routes = &admin->routes_](const http::Request& request) { return routes->answer(request); });
  if (!started) return started.error();
  admin->server_ = *std::move(started);
  const Endpoint bound{options.http.host, admin->port()};
  log_info("http listening", {{"dashboard", "http://" + bound.authority() + "/"}});
  return admin;
}

void AdminServer::stop() {
  publisher_.close();
  admin_queue_.close();
  if (server_) server_->stop();
}

}  // namespace millrace::admin
