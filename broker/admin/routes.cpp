#include "broker/admin/routes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "broker/admin/metrics.h"
#include "broker/admin/page.h"
#include "broker/admin/status_json.h"

namespace millrace::admin {
namespace {

using http::Response;

constexpr const char* kJson = "application/json";

Response page() {
  Response response = http::ok("text/html; charset=utf-8", kPage);
  response.headers.emplace_back("Content-Security-Policy",
                                "default-src 'none'; style-src 'unsafe-inline'; "
                                "script-src 'unsafe-inline'; connect-src 'self'; "
                                "img-src data:; base-uri 'none'; frame-ancestors 'none'");
  return response;
}

Response unavailable(std::string_view detail) {
  Response response = http::problem(503, detail);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

Response unauthorized() {
  Response response = http::problem(
      401, "this broker was started with --http-token; send it as 'Authorization: Bearer TOKEN'");
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

Response status(const Snapshot& now) {
  return http::ok(kJson, json_text(status_json(*now.status)));
}
Response queues(const Snapshot& now) {
  return http::ok(kJson, json_text(queues_json(*now.status)));
}
Response workers(const Snapshot& now) {
  return http::ok(kJson, json_text(workers_json(*now.status)));
}
Response dead(const Snapshot& now) { return http::ok(kJson, json_text(dead_json(*now.status))); }
Response metrics(const Snapshot& now) { return http::ok(kMetricsType, metrics_text(*now.status)); }

Response healthz(const Snapshot&) { return http::ok("text/plain", "ok\n"); }
Response readyz(const Snapshot& now) {
  if (now.status->state == "serving") return http::ok("text/plain", "ready\n");
  return unavailable(fmt::format("the broker is {}: it takes no jobs", now.status->state));
}

struct Route {
  std::string_view path;
  Response (*answer)(const Snapshot&);
};
constexpr Route kRoutes[] = {
    {"/v1/status", status}, {"/v1/queues", queues}, {"/v1/workers", workers}, {"/v1/dead", dead},
    {"/metrics", metrics},  {"/healthz", healthz},  {"/readyz", readyz},
};

// Takes the same time whatever the text is, so that a token can't be found out letter by letter.
bool same_secret(std::string_view secret, std::string_view text) {
  unsigned difference = secret.size() != text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    difference |= static_cast<unsigned char>(secret[i % secret.size()] ^ text[i]);
  }
  return difference == 0;
}

// A core that recovers replays its journal, and answers when that is over.
bool usable(const Snapshot& now) {
  return now.status && (now.fresh || now.status->state == "recovering");
}

}  // namespace

Routes::Routes(Snapshots& snapshots, std::string token, Millis patience)
    : snapshots_(snapshots), token_(std::move(token)), patience_(patience) {}

bool Routes::admits(const http::Request& request) const {
  if (token_.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = request.header("Authorization");
  if (!given.starts_with(kScheme)) return false;
  return same_secret(token_, given.substr(kScheme.size()));
}

Response Routes::answer(const http::Request& request) {
  const Route* found = nullptr;
  for (const Route& route : kRoutes) {
    if (route.path == request.path) found = &route;
  }
  if (!found && request.path != "/") {
    return http::problem(404, fmt::format("there is nothing at {}", request.path));
  }
  if (request.method != "GET") return http::method_not_allowed("GET, HEAD");
  if (!found) return page();
  if (!admits(request)) return unauthorized();
  Snapshot now = snapshots_.request(patience_);
  if (usable(now)) return found->answer(now);
  return unavailable(
      fmt::format("the broker's core did not answer within {} ms: it is overloaded or stopping",
                  patience_.count()));
}

}  // namespace millrace::admin
