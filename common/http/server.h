// A small HTTP/1.1 server for admin pages and gateways, on one thread of its own.
// Shape:   request → handler → Response, in order on each connection (keep-alive, pipelining); a
//          handler answers at once, or later by its Responder
//          1. A client can't hold anything for longer than the limits say: neither a connection by
//             silence, nor memory by size, nor the thread by sending or reading slowly.
//          2. What the server itself refuses, it answers as problem+json: 400, 408, 413, 431, 501,
//             503, 505.
//          3. /healthz and /readyz are answered above the maximum of connections too: a supervisor
//             must not end a program for its visitors.
//          4. The place of a client that leaves while it waits for an answer is free 80 ms later at
//             most. One that closes only its sending half gets its answer.
// Limits:  see Limits; above the maximum a connection gives way whose client has closed its side while
//          it waits for an answer, or else the one that has been idle longest. If there is neither,
//          none idle for crowded_idle_time, the newcomer is answered with 503 and closed; beyond
//          limits.refusals of those at once it waits to be accepted. Where the process has no more
//          descriptors, the idle longest is closed, and accepting goes on 100 ms later
// Errors:  start(): cant_create (73). A handler that throws: 500, and a line in the log; 503 if there
//          is no memory for the request
// Owns:    the listening socket, the connections, the thread; what the handler refers to must
//          outlive stop()
// Threads: start, drain and stop: one thread; post: any; handlers are called on the server's own,
//          and Responders used there. A handler that answers at once may wait for as long as it is
//          right to keep all clients waiting
// Source:  RFC 9110, RFC 9112; Boost.Beast below, in the .cpp only, since it is slow to compile
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/base/units.h"
#include "common/http/message.h"

namespace millrace::http {

struct Limits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 1 << 20;
  size_t all_body_bytes = 256 << 20;  // of all requests that are being read or answered
  size_t connections = 256;
  size_t refusals = 256;            // connections above these, for the moment that a 503 takes
  Millis crowded_idle_time{2'000};  // idle for this long: gives way when all connections are in use
  Millis request_time{10'000};      // first to last byte of a request, and likewise of a response
  Millis idle_time{30'000};         // between two requests
  int backlog = 4096;  // connections that wait to be accepted; the kernel may allow fewer
};

// What a request's header decides before its body is read.
struct Admission {
  std::optional<Response> refusal;  // sent instead of asking the handler
  size_t body_bytes = 0;            // the limit for this one; 0: the server's
};
using Gate = std::function<Admission(const Request& head)>;

struct ServerOptions {
  Endpoint address{"127.0.0.1", 0};  // port 0: any free one; see Server::port()
  std::string flag = "--http";       // the option that errors are to name
  Limits limits;
  Gate gate;  // may be empty
};

struct Exchange;

// The way back of one request, from the server's thread. One that is dropped without an answer is
// answered with 500. After stop(), or when the client has gone, answers go nowhere.
class Responder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}
  Responder(Responder&&) = default;
  Responder& operator=(Responder&& other) noexcept;
  ~Responder();
  // Once. The connection may go on to its next request, and ask the handler, before this returns.
  void operator()(Response response);
  // Called, on the server's thread, if the client leaves before there is an answer. The answer then
  // goes nowhere.
  void on_departure(std::function<void()> call);

 private:
  std::shared_ptr<Exchange> exchange_;
};

using Handler = std::function<Response(const Request&)>;
using LateHandler = std::function<void(Request, Responder)>;

class Server {
 public:
  // Listens and serves from here on.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, Handler handler);
  static Result<std::unique_ptr<Server>> start(ServerOptions options, LateHandler handler);

  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Runs it on the server's thread, soon; not at all after stop().
  void post(std::function<void()> work);
  // Stops listening, closes idle connections, the others with the answer that they wait for;
  // returns when all are closed, or after that time.
  void drain(Millis timeout);
  // Closes every connection and waits for the thread. Once is enough.
  void stop();
  uint16_t port() const { return port_; }
  // Open now.
  size_t connections() const;

 private:
  struct Engine;
  explicit Server(std::unique_ptr<Engine> engine, uint16_t port);

  std::unique_ptr<Engine> engine_;  // none after stop()
  uint16_t port_;
};

}  // namespace millrace::http
