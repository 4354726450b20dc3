// An HTTP ingress: each request is a submission, answered when the broker has said that it is
// durable.
// Shape:   HTTP server's thread → Runner → events → the replies that wait (docs/GATEWAY.md)
//          1. 202 only for what the broker has confirmed; 503 "unknown" when it did not say in
//             time.
//          2. All connections share the runner's batches.
// Limits:  GatewayOptions; each answered with the status that docs/GATEWAY.md names
// Errors:  start(): cant_create (73), the address; config (78). What ends the runner
//          is told by failed_fd() and error()
// Owns:    server, runner and their threads
// Threads: start, drain and the destructor: one
#pragma once

#include <atomic>
#include <latch>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "common/http/access.h"
#include "common/http/server.h"
#include "producer/gateway/gateway_metrics.h"
#include "producer/gateway/job_names.h"
#include "producer/gateway/job_request.h"
#include "producer/gateway/routes.h"
#include "producer/runner/runner.h"

namespace millrace::producer {

struct GatewayOptions {
  Endpoint http;
  std::vector<std::string> tokens;  // empty: none is needed
  RunnerOptions runner;
  http::Limits limits;
  size_t batch_body_bytes = 16 << 20;
  Millis answer_timeout{10'000};
  Millis max_wait{60'000};
};

class Gateway {
 public:
  static Result<std::unique_ptr<Gateway>> start(GatewayOptions options);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // New requests get 503; returns when those under way are answered, or after that time: then what
  // the broker has not answered is answered as unknown, and who waits for a job's end with 202.
  void drain(Millis timeout);

  uint16_t port() const { return server_->port(); }
  // Readable when the runner has ended by itself; error() says why.
  int failed_fd() const { return failed_.fd(); }
  Error error();

 private:
  // The lines of one batch, answered together.
  struct Batch {
    Batch(http::Responder to, const JobNames& for_client)
        : reply(std::move(to)), names(for_client) {}
    http::Responder reply;
    const JobNames& names;
    std::vector<std::string> lines;
    size_t open = 0;
  };
  // What waits for the events of a token.
  struct Pending {
    std::optional<http::Responder> reply;  // of a single submission, or a look-up
    const JobNames* names = nullptr;       // of the token that it showed
    std::shared_ptr<Batch> batch;
    size_t line = 0;
    bool raw = false, waits = false, asks = false;
    Mono since;
    std::unique_ptr<Answer> answer;  // of who waits for the end, once there is one
    BrokerId broker;                 // of a look-up
  };

  explicit Gateway(GatewayOptions options);
  Result<void> open();

  // On the server's thread
  http::Admission admit(const http::Request& head);
  std::optional<http::Response> refuse(const Route& route, const http::Request& head) const;
  void handle(http::Request request, http::Responder reply);
  void submit(const Route& route, http::Request request, http::Responder reply);
  void flush();
  void submit_batch(const Route& route, http::Request request, http::Responder reply);
  void keep(Token token, Pending pending);
  void look_up(const Route& route, const http::Request& request, http::Responder reply);
  http::Response show(RouteKind kind) const;
  http::Response no_room() const;
  const JobNames& names_of(const http::Request& request) const;
  Token next_token() { return {++last_token_}; }
  void take(Runner::Events events);
  void take(Event event);
  void finish(Pending& pending, Event& event);
  void take_line(Pending& pending, const Answer& answer);
  void finish(Batch& batch);
  void respond(http::Responder& reply, http::Response response);

  const GatewayOptions options_;
  const http::Access access_;
  std::vector<JobNames> names_;  // of each token; or one for all
  Wakeup failed_;
  std::mutex lock_;  // of error_
  Error error_;
  std::atomic<bool> draining_{false};
  std::latch open_{1};  // requests wait for it: they use all of the following
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<http::Server> server_;

  // The server's thread only
  std::unordered_map<Token, Pending> pending_;
  std::vector<Submission> outbox_;  // of this turn of the server, for the runner
  uint64_t last_token_ = 0;
  GatewayMetrics metrics_;
};

}  // namespace millrace::producer
