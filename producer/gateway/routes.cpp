#include "producer/gateway/routes.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "common/http/query.h"

namespace millrace::producer {
namespace {

constexpr RouteSpec kRoutes[] = {
    {"POST", "/v1/queues/{queue}/jobs", RouteKind::submit},
    {"POST", "/v1/queues/{queue}/jobs:batch", RouteKind::batch},
    {"GET", "/v1/jobs/{id}", RouteKind::job},
    {"GET", "/metrics", RouteKind::metrics},
    {"GET", "/healthz", RouteKind::healthz, true},
    {"GET", "/readyz", RouteKind::readyz, true},
    {"GET", "/openapi.json", RouteKind::openapi, true},
};

// The part before the next slash, which is taken off too.
std::string_view take_segment(std::string_view& path) {
  size_t slash = std::min(path.find('/'), path.size());
  std::string_view segment = path.substr(0, slash);
  path.remove_prefix(std::min(slash + 1, path.size()));
  return segment;
}

// The subject, empty where the table's path has none; nothing if the paths differ.
std::optional<std::string> match(std::string_view pattern, std::string_view path) {
  std::string subject;
  while (!pattern.empty() && !path.empty()) {
    std::string_view wanted = take_segment(pattern);
    const bool more = path.find('/') != std::string_view::npos;
    const std::string_view given = take_segment(path);
    if (more && path.empty()) return std::nullopt;  // a slash at the end is another path
    if (wanted == given) continue;
    auto decoded = http::percent_decoded(given);
    if (!decoded) return std::nullopt;
    if (wanted.starts_with('{') && !decoded->empty()) {
      subject = *std::move(decoded);
    } else if (wanted != *decoded) {
      return std::nullopt;
    }
  }
  if (!pattern.empty() || !path.empty()) return std::nullopt;
  return subject;
}

}  // namespace

std::span<const RouteSpec> gateway_routes() { return kRoutes; }

std::variant<Route, http::Response> find_route(const http::Request& request) {
  std::string allowed;
  for (const RouteSpec& spec : kRoutes) {
    auto subject = match(spec.path, request.path);
    if (!subject) continue;
    if (spec.method == request.method) return Route{spec.kind, spec.open, *std::move(subject)};
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", spec.method);
    if (spec.method == "GET") allowed += ", HEAD";
  }
  if (!allowed.empty()) return http::method_not_allowed(allowed);
  return http::problem(
      404, fmt::format("there is nothing at {}; /openapi.json lists the paths", request.path));
}

}  // namespace millrace::producer
