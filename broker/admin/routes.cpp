#include "broker/admin/routes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "broker/admin/metrics.h"
#include "broker/admin/operation_routes.h"
#include "broker/admin/page.h"
#include "broker/admin/status_json.h"
#include "common/metrics/metrics.h"

namespace millrace::admin {
namespace {

using http::Response;

constexpr const char* kJson = "application/json";
constexpr const char* kTokenWanted =
    "this broker was started with --http-token; send it as 'Authorization: Bearer TOKEN'";

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

Response status(const Snapshot& now) {
  return http::ok(kJson, json_text(status_json(*now.status)));
}
Response queues(const Snapshot& now) {
  return http::ok(kJson, json_text(queues_json(*now.status)));
}
Response workers(const Snapshot& now) {
  return http::ok(kJson, json_text(workers_json(*now.status)));
}
Response metrics(const Snapshot& now) { return http::ok(kMetricsType, metrics_text(*now.status)); }

Response healthz(const Snapshot&) { return http::ok("text/plain", "ok\n"); }
Response readyz(const Snapshot& now) {
  if (now.status->journal.rejecting)
    return unavailable("the journal's disk is down to its reserve: new jobs are rejected");
  if (now.status->state == "serving") return http::ok("text/plain", "ready\n");
  return unavailable(fmt::format("the broker is {}: it accepts no jobs", now.status->state));
}

struct Route {
  std::string_view path;
  Response (*answer)(const Snapshot&);
};
constexpr Route kRoutes[] = {
    {"/v1/status", status}, {"/v1/queues", queues}, {"/v1/workers", workers},
    {"/metrics", metrics},  {"/healthz", healthz},  {"/readyz", readyz},
};

bool is_json(std::string_view content_type) {
  return content_type.substr(0, content_type.find(';')) == "application/json";
}

// A core that recovers replays its journal, and answers when that is over.
bool usable(const Snapshot& now) {
  return now.status && (now.fresh || now.status->state == "recovering");
}

}  // namespace

Routes::Routes(StatusPublisher& publisher, AdminQueue& admin_queue, std::string token,
               Millis timeout)
    : publisher_(publisher),
      admin_queue_(admin_queue),
      access_(std::move(token)),
      timeout_(timeout) {}

Response Routes::show(const http::Request& request, Response (*form)(const Snapshot&)) {
  if (request.method != "GET") return http::method_not_allowed("GET, HEAD");
  if (!form) return page();
  if (form != healthz && form != readyz) {
    if (!access_.admits(request)) return http::unauthorized(kTokenWanted);
    if (access_.from_elsewhere(request)) return http::forbidden();
  }
  Snapshot now = publisher_.request(timeout_);
  if (usable(now)) return form(now);
  return unavailable(
      fmt::format("the broker's core did not answer within {} ms: it is overloaded or stopping",
                  timeout_.count()));
}

Response Routes::operate(const http::Request& request, const OperationRoute& route) {
  if (!access_.admits(request)) return http::unauthorized(kTokenWanted);
  if (access_.from_elsewhere(request)) return http::forbidden();
  if (!request.body.empty() && !is_json(request.header("Content-Type")))
    return http::problem(415, "the body must be JSON, with Content-Type: application/json");
  auto operation = read_operation(route, request);
  if (auto* refusal = std::get_if<Answer>(&operation)) return std::move(*refusal);
  const Millis long_wait = request.query == "wait=0" ? Millis(0) : AdminQueue::kLongWait;
  auto reply = admin_queue_.ask(std::get<Operation>(std::move(operation)), timeout_, long_wait);
  switch (reply.outcome) {
    case AdminQueue::Outcome::answered:
      return std::move(reply.answer);
    case AdminQueue::Outcome::not_done:
      return unavailable(
          "the broker's core does not answer, so nothing was done: it is recovering, overloaded or "
          "stopping");
    case AdminQueue::Outcome::unknown:
      break;
  }
  return unavailable(
      fmt::format("the journal did not commit this within {} ms: it may have been done, or be done "
                  "later; look before you ask again",
                  timeout_.count()));
}

Response Routes::answer(const http::Request& request) {
  if (request.path == "/") return show(request, nullptr);
  const bool is_page = request.path == "/v1/queues" && !request.query.empty();
  for (const Route& route : kRoutes) {
    if (route.path == request.path && !is_page) return show(request, route.answer);
  }
  if (const OperationRoute* route = find_operation(request.method, request.path))
    return operate(request, *route);
  if (const std::string methods = methods_of(request.path); !methods.empty())
    return http::method_not_allowed(methods);
  return http::problem(404, fmt::format("there is nothing at {}", request.path));
}

}  // namespace millrace::admin
