#include "broker/admin/status_command.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "broker/admin/admin_server.h"
#include "broker/admin/status_text.h"
#include "common/http/client.h"

namespace millrace::admin {
namespace {

constexpr Millis kTimeout{5000};  // the broker itself gives up after kHealthTime

struct QueryOptions {
  AdminOptions broker;
  bool json = false;
};
using Render = std::string (*)(const nlohmann::json&);

Error not_a_broker(const Endpoint& http, const std::string& target) {
  return {ExitCode::bad_data,
          fmt::format("http://{}{} is not the answer of a Millrace broker of this "
                      "version; --http must name the broker's HTTP address",
                      http.authority(), target)};
}

Error refused(const Endpoint& http, const http::Reply& reply) {
  if (reply.status == 401) {
    return {ExitCode::config,
            fmt::format("the broker at http://{} asks for its token, and this is not it; give the "
                        "right one with --http-token or MILLRACE_HTTP_TOKEN",
                        http.authority())};
  }
  auto body = nlohmann::json::parse(reply.body, nullptr, false);
  std::string detail = body.is_object() ? body.value("detail", "") : "";
  bool busy = reply.status == 503;
  return {busy ? ExitCode::temporary : ExitCode::bad_data,
          fmt::format("http://{} answered with status {}{}{}; {}", http.authority(), reply.status,
                      detail.empty() ? "" : ": ", detail,
                      busy ? "try again, or look at the broker's log"
                           : "--http must name the broker's HTTP address")};
}

Result<ExitCode> print(const QueryOptions& options, const std::string& target, Render render) {
  const Endpoint& http = options.broker.http;
  auto reply = http::get(http, target, kTimeout, options.broker.token);
  if (!reply) return reply.error();
  if (reply->status != 200) return refused(http, *reply);
  try {
    auto answer = nlohmann::json::parse(reply->body);
    fmt::print("{}", options.json ? reply->body : render(answer));
  } catch (const nlohmann::json::exception&) {
    return not_a_broker(http, target);
  }
  return ExitCode::ok;
}

void add_query(Options& options, const char* name, const char* summary, const char* target,
               Render render) {
  // The action keeps what its flags fill.
  auto query = std::make_shared<QueryOptions>();
  Command& command = options.command(
      name, summary, [query, target, render] { return print(*query, target, render); });
  add_http_flags(command, query->broker);
  command.toggle("--json", query->json, "print one JSON object");
}

}  // namespace

void add_status_command(Options& options) {
  add_query(options, "status", "show jobs, queues, workers and journal of a running broker",
            "/v1/status", status_text);
}

void add_dead_command(Options& options) {
  add_query(options, "dead", "list the jobs that used up their attempts", "/v1/dead", dead_text);
}

}  // namespace millrace::admin
