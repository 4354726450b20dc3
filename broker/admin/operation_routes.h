// Which HTTP request asks for which operation.
// Shape:   GET   /v1/jobs?queue=…           a page of them: job_query.h
//          GET   /v1/jobs/{id}              …/payload    POST /v1/jobs/{id}/cancel
//          GET   /v1/queues?cursor=N        a page of all of them
//          GET, DELETE /v1/queues/{name}
//          PATCH /v1/queues/{name}          {"weight": 3, …}: queue_change.h
//          POST  /v1/queues/{name}/pause    …/resume    …/purge
//          GET   /v1/dead?queue=…           a page of them: job_query.h
//          POST  /v1/dead/retry, /v1/dead/drop
//          GET   /v1/operations/{id}
//                {"id": …, "queue": …, "error": …, "older_ms": …}, or {"all": true}
// Errors:  of read_operation: 400 not such a body, 404 no such name, 422 a bad value
// Threads: immutable
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <variant>

#include "broker/admin/operation.h"

namespace millrace::admin {

struct OperationRoute {
  std::string_view method;
  std::string_view path;  // "{}" stands for a name
  // The name in the path; of a path that has none, the query.
  Result<Operation> (*read)(const std::string& name, const nlohmann::json& body);
};

// Null: no operation has this method and path.
const OperationRoute* find_operation(std::string_view method, std::string_view path);
// With which methods a path can be asked for, as an Allow header has them; empty: no operation has
// it.
std::string methods_of(std::string_view path);

// The request's path must be the route's.
std::variant<Operation, Answer> read_operation(const OperationRoute& route,
                                               const http::Request& request);

}  // namespace millrace::admin
