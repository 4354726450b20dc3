// Which request goes where: the table of the gateway's paths and methods.
// Shape:   path and method → a route and its subject, or 404, or 405 with Allow. Segments are
//          compared after percent-decoding; {name} in the table stands for one that is not empty.
// Threads: immutable
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "common/http/message.h"

namespace millrace::producer {

enum class RouteKind { submit, batch, job, metrics, healthz, readyz, openapi };

struct RouteSpec {
  std::string_view method;
  std::string_view path;
  RouteKind kind;
  bool open = false;  // needs no token
};
std::span<const RouteSpec> gateway_routes();

struct Route {
  RouteKind kind;
  bool open = false;
  std::string subject;  // the queue, or the job's id
};
std::variant<Route, http::Response> find_route(const http::Request& request);

}  // namespace millrace::producer
