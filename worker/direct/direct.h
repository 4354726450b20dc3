// The way of working without a queue, to compare with: a server that runs each request itself, one
// after the other on one thread, while whoever sent it waits.
// Shape:   POST /v1/queues/{queue}/jobs, the gateway's path and body → 200 and the result when the
//          handler has run, 500 when it failed; GET /v1/status: requests, done, failed; GET /healthz
//          A web page of another site is answered with 403, and runs nothing (common/http/access.h).
//          All on the one thread: while a handler runs nothing is accepted, read or answered.
// Limits:  --backlog connections wait to be accepted, as the kernel counts; further ones find no one
//          there. At --max-connections: 503.
// Errors:  usage: no such handler; config: beyond loopback; cant_create (73)
// Threads: answer(): one, the server's; stop(): any
#pragma once

#include <memory>
#include <string>

#include "common/cli/options.h"
#include "common/http/access.h"
#include "common/http/message.h"
#include "worker/handlers/handler.h"

namespace millrace::worker {

class Direct {
 public:
  explicit Direct(std::unique_ptr<Handler> handler) : handler_(std::move(handler)) {}

  http::Response answer(const http::Request& request);
  // A handler that runs returns soon.
  void stop() { stop_.set(); }

  // When nobody calls answer().
  uint64_t done() const { return done_; }
  uint64_t failed() const { return failed_; }

 private:
  http::Response run(std::string_view queue, const std::string& payload);

  const http::Access access_{std::string()};
  std::unique_ptr<Handler> handler_;
  StopSignal stop_;
  uint64_t done_ = 0;
  uint64_t failed_ = 0;
};

// The command `direct`.
void add_direct_command(Options& options);

}  // namespace millrace::worker
