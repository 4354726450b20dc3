// A small HTTP/1.1 server for admin pages and gateways, on one thread of its own.
// Shape:   request → Handler → Response, in order on each connection (keep-alive, pipelining)
//          1. A client can't hold anything for longer than the limits say: neither a connection by
//             silence, nor memory by size, nor the thread by sending or reading slowly.
//          2. What the server itself refuses, it answers as problem+json: 400, 408, 413, 431, 503.
// Limits:  see Limits; at a connection above the maximum: 503, then closed
// Errors:  start(): cant_create (73). A handler that throws: 500, and a line in the log
// Owns:    the listening socket, the connections, the thread; what the handler refers to must
//          outlive stop()
// Threads: start and stop: one thread; the handler is called on the server's own, and may wait for
//          as long as it is right to keep all clients waiting
// Source:  RFC 9110, RFC 9112; Boost.Beast below, in the .cpp only, since it is slow to compile
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/http/message.h"
#include "common/result.h"
#include "common/time.h"
#include "common/units.h"

namespace millrace::http {

struct Limits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 1 << 20;
  size_t connections = 256;
  Millis request_time{10'000};  // first to last byte of a request, and likewise of a response
  Millis idle_time{30'000};     // between two requests
  int backlog = 4096;           // connections that wait to be accepted; the kernel may allow fewer
};

struct ServerOptions {
  Endpoint address{"127.0.0.1", 0};  // port 0: any free one; see Server::port()
  std::string flag = "--http";       // the option that errors are to name
  Limits limits;
};

using Handler = std::function<Response(const Request&)>;

class Server {
 public:
  // Listens and serves from here on.
  static Result<std::unique_ptr<Server>> start(ServerOptions options, Handler handler);

  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Closes every connection and waits for the thread. Once is enough.
  void stop();
  uint16_t port() const { return port_; }

 private:
  struct Engine;
  explicit Server(std::unique_ptr<Engine> engine, uint16_t port);

  std::unique_ptr<Engine> engine_;  // none after stop()
  uint16_t port_;
};

}  // namespace millrace::http
