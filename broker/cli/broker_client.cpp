#include "broker/cli/broker_client.h"

#include <fmt/format.h>

namespace millrace::admin {
namespace {

Error refused(const Endpoint& http, const http::Reply& reply) {
  if (reply.status == 401) {
    return {ExitCode::config,
            fmt::format("the broker at http://{} requires a token, and this one is not valid; give "
                        "the right one with --http-token or MILLRACE_HTTP_TOKEN",
                        http.authority())};
  }
  auto body = nlohmann::json::parse(reply.body, nullptr, false);
  std::string detail = body.is_object() ? body.value("detail", "") : "";
  bool busy = reply.status == 503 || reply.status == 429;
  bool explained = reply.content_type == "application/problem+json" && !detail.empty();
  if (explained && !busy) return {ExitCode::bad_data, detail};
  return {busy ? ExitCode::temporary : ExitCode::bad_data,
          fmt::format("http://{} answered with status {}{}{}; {}", http.authority(), reply.status,
                      detail.empty() ? "" : ": ", detail,
                      busy ? "try again, or look at the broker's log"
                           : "--http must name the broker's HTTP address")};
}

}  // namespace

Error not_a_broker(const AdminOptions& broker, const std::string& target) {
  return {ExitCode::bad_data,
          fmt::format("http://{}{} is not the answer of a Millrace broker of this "
                      "version; --http must name the broker's HTTP address",
                      broker.http.authority(), target)};
}

Result<BrokerReply> ask_broker(const AdminOptions& broker, const std::string& method,
                               const std::string& target, std::string body, Millis timeout) {
  auto reply = http::request(method, broker.http, target, std::move(body), timeout, broker.token);
  if (!reply) return reply.error();
  if (reply->status != 200 && reply->status != 202) return refused(broker.http, *reply);
  auto json = nlohmann::json::parse(reply->body, nullptr, false);
  if (!json.is_object()) return not_a_broker(broker, target);
  return BrokerReply{reply->status, std::move(reply->body), std::move(json)};
}

Result<http::Reply> fetch_bytes(const AdminOptions& broker, const std::string& target) {
  auto reply = http::request("GET", broker.http, target, "", kBrokerTimeout, broker.token);
  if (reply && reply->status != 200) return refused(broker.http, *reply);
  return reply;
}

}  // namespace millrace::admin
