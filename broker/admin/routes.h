// What the broker answers over HTTP: a snapshot in the form that a path asks for.
// Shape:   /            the dashboard: a page without data of its own
//          /v1/status   /v1/queues   /v1/workers   /v1/dead      JSON
//          /metrics     Prometheus
//          /healthz     200 while the core publishes within kHealthTime, or is still recovering
//          /readyz      200 while jobs are taken: state serving
//          With a token, everything but the page wants "Authorization: Bearer TOKEN".
// Errors:  401, 404, 405; 503 while the core does not answer
// Owns:    the token; the snapshots must outlive it
// Threads: one, the HTTP server's
#pragma once

#include <string>

#include "broker/admin/snapshots.h"
#include "common/http/message.h"

namespace millrace::admin {

inline constexpr Millis kHealthTime{2000};

class Routes {
 public:
  Routes(Snapshots& snapshots, std::string token, Millis patience = kHealthTime);

  http::Response answer(const http::Request& request);

 private:
  bool admits(const http::Request& request) const;

  Snapshots& snapshots_;
  const std::string token_;  // empty: anyone may ask
  const Millis patience_;
};

}  // namespace millrace::admin
