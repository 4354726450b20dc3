// What the broker answers over HTTP: a snapshot in the form that a path asks for, or what the core
// says to an operation.
// Shape:   /            the dashboard: a page without data of its own
//          /v1/status   /v1/queues   /v1/workers      JSON
//          /metrics     Prometheus
//          /healthz     200 while the core publishes within kHealthTime, or is still recovering
//          /readyz      200 while jobs are taken: state serving
//          operations as in operation_routes.h
//          With a token, everything but the page wants "Authorization: Bearer TOKEN".
//          A web page of another site may ask for no operation: its Origin gives it away, and a
//          name that was bound to this machine's address is no name of this host.
// Errors:  401, 404, 405; 503 while the core does not answer; of operations also 400, 403, 409, 415
//          and 422
// Owns:    the token; the publisher and the AdminQueue must outlive it
// Threads: one, the HTTP server's
#pragma once

#include <string>

#include "broker/admin/admin_queue.h"
#include "broker/admin/status_publisher.h"
#include "common/http/access.h"
#include "common/http/message.h"

namespace millrace::admin {

struct OperationRoute;

inline constexpr Millis kHealthTime{2000};

class Routes {
 public:
  Routes(StatusPublisher& publisher, AdminQueue& admin_queue, std::string token,
         Millis timeout = kHealthTime);

  http::Response answer(const http::Request& request);

 private:
  http::Response show(const http::Request& request, http::Response (*form)(const Snapshot&));
  http::Response operate(const http::Request& request, const OperationRoute& route);

  StatusPublisher& publisher_;
  AdminQueue& admin_queue_;
  const http::Access access_;
  const Millis timeout_;
};

}  // namespace millrace::admin
