#include "common/http/server.h"

#include <fmt/format.h>

#include <atomic>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/http/access.h"
#include "tests/unit/http/http_test_client.h"

namespace millrace::http {
namespace {

Response echo(const Request& request) {
  if (request.path == "/throws") throw std::runtime_error("on purpose");
  if (request.path == "/starves") throw std::bad_alloc();
  if (request.path == "/get-only" && request.method != "GET")
    return method_not_allowed("GET, HEAD");
  if (request.path == "/large") return ok("text/plain", std::string(8 << 20, 'x'));
  std::string host(request.header("hOST"));
  return ok("text/plain", fmt::format("{} {} ? {} from {}: {}", request.method, request.path,
                                      request.query, host, request.body));
}

std::unique_ptr<Server> serve(Limits limits = {}) {
  ServerOptions options;
  options.limits = limits;
  auto server = Server::start(options, echo);
  REQUIRE(server.ok());
  return *std::move(server);
}

constexpr size_t kSlack = 64;  // the library below counts a header's bytes not to the last one
constexpr std::string_view kGet = "GET /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n";

void check_problem(const RawReply& reply, int status) {
  CHECK(reply.status() == status);
  CHECK(reply.has("Content-Type: application/problem+json\r\n"));
  CHECK(reply.has("Connection: close\r\n"));
  auto body = nlohmann::json::parse(reply.body);
  CHECK(body["status"] == status);
  CHECK(body["type"] == "about:blank");
  CHECK_FALSE(body["title"].get<std::string>().empty());
  CHECK_FALSE(body["detail"].get<std::string>().empty());
}

}  // namespace

TEST_CASE("a request reaches the handler in its parts, and the answer comes back", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto reply = client.ask(kGet);
  CHECK(reply.status() == 200);
  CHECK(reply.has("Content-Type: text/plain\r\n"));
  CHECK(reply.has("Cache-Control: no-store\r\n"));
  CHECK(reply.has("Date: "));
  CHECK(reply.body == "GET /a ? b=c from here: ");
}

TEST_CASE("a connection is kept for the next request", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  for (int i = 0; i < 3; ++i) CHECK(client.ask(kGet).status() == 200);
  auto last = client.ask("GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
  CHECK(last.has("Connection: close\r\n"));
  CHECK(client.closed());
}

TEST_CASE("HTTP/1.0 closes after the answer", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  CHECK(client.ask("GET / HTTP/1.0\r\n\r\n").status() == 200);
  CHECK(client.closed());
}

TEST_CASE("pipelined requests are answered in order", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += fmt::format("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", i);
  REQUIRE(client.send(requests));
  for (int i = 0; i < 50; ++i) CHECK(client.reply().body == fmt::format("GET /{} ?  from h: ", i));
}

TEST_CASE("HEAD has the header of GET and no body", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto get = client.ask(kGet);
  REQUIRE(client.send("HEAD /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n"));
  auto head = client.reply(true);
  CHECK(head.status() == 200);
  CHECK(head.has(fmt::format("Content-Length: {}\r\n", get.body.size())));
  CHECK(client.ask(kGet).body == get.body);  // no stray byte came between
}

TEST_CASE("a body is read by its length, or in chunks", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto reply = client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
  CHECK(reply.body == "POST / ?  from h: hello");
  reply = client.ask(
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
  CHECK(reply.body == "POST / ?  from h: hello");
}

TEST_CASE("a client that asks first is told to send its body", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto go_on = client.ask(
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
      "Expect: 100-continue\r\n\r\n");
  CHECK(go_on.status() == 100);
  CHECK(client.ask("hi").body == "POST / ?  from h: hi");
}

TEST_CASE("a method that a resource does not take is named in Allow", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto reply = client.ask("DELETE /get-only HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(reply.status() == 405);
  CHECK(reply.has("Allow: GET, HEAD\r\n"));
  CHECK(client.ask(kGet).status() == 200);
}

TEST_CASE("a handler that throws is answered with 500, and the server goes on", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  auto reply = client.ask("GET /throws HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(reply.status() == 500);
  CHECK(reply.body.find("on purpose") == std::string::npos);
  CHECK(client.ask(kGet).status() == 200);
}

TEST_CASE("what is not HTTP is answered with 400", "[http]") {
  auto server = serve();
  for (std::string_view bytes :
       {"hello there\r\n\r\n", "\x16\x03\x01\x02\x01\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    CAPTURE(bytes);
    RawClient client(server->port());
    check_problem(client.ask(bytes), 400);
    CHECK(client.closed());
  }
}

TEST_CASE("an HTTP/1.1 request without Host is answered with 400", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  check_problem(client.ask("GET / HTTP/1.1\r\n\r\n"), 400);
  RawClient twice(server->port());
  check_problem(twice.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
}

TEST_CASE("two different Authorization headers are answered with 400", "[http]") {
  auto server = serve();
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n";
  RawClient client(server->port());
  check_problem(client.ask(head + "Authorization: Bearer two\r\n\r\n"), 400);
  RawClient same(server->port());
  CHECK(same.ask(head + "Authorization: Bearer one\r\n\r\n").status() == 200);
}

TEST_CASE("a bearer token is found whatever the case of its scheme and the spaces", "[http]") {
  const http::Access access(std::vector<std::string>{"first", "second"});
  auto token_of = [&](const std::string& value) {
    http::Request request;
    request.headers.emplace_back("Authorization", value);
    return access.token_of(request);
  };
  for (const char* good : {"Bearer second", "bearer second", "BEARER   second"}) {
    CAPTURE(good);
    CHECK(token_of(good) == 1);
  }
  for (const char* bad :
       {"", "Bearer", "Bearer ", "Bearer  ", "second", "Bearersecond", "Basic second",
        "Bearer Second", "Bearer second third", "Bearer\tsecond"}) {
    CAPTURE(bad);
    CHECK_FALSE(token_of(bad));
  }
}

TEST_CASE("a name of loopback is one in any case of letters, and with a dot at its end", "[http]") {
  const http::Access access{std::string()};
  auto from_elsewhere = [&](const std::string& host, const std::string& origin = "") {
    http::Request request;
    request.headers.emplace_back("Host", host);
    if (!origin.empty()) request.headers.emplace_back("Origin", origin);
    return access.from_elsewhere(request);
  };
  for (const char* own : {"localhost", "LOCALHOST", "LocalHost:5590", "localhost.", "LOCALHOST.:80",
                          "127.0.0.1", "127.0.0.1:5590", "[::1]", "[::1]:5590"}) {
    CAPTURE(own);
    CHECK_FALSE(from_elsewhere(own));
  }
  for (const char* other : {"localhost..", ".", "localhost.evil.example", "127.0.0.1.evil.example",
                            "xlocalhost", "rebound.example", "[::2]", "localhost:80:evil"}) {
    CAPTURE(other);
    CHECK(from_elsewhere(other));
  }
  CHECK_FALSE(from_elsewhere("LOCALHOST:80", "http://localhost:80"));
  CHECK(from_elsewhere("localhost:80", "http://localhost:81"));
}

TEST_CASE("a target in absolute form is a path, and its authority counts in place of Host",
          "[http]") {
  auto server = serve();
  RawClient client(server->port());
  CHECK(client.ask("GET http://there:81/a?b=c HTTP/1.1\r\nHost: here\r\n\r\n").body ==
        "GET /a ? b=c from there:81: ");
  CHECK(client.ask("GET HTTP://there?b HTTP/1.1\r\nHost: here\r\n\r\n").body ==
        "GET / ? b from there: ");
  CHECK(client.ask("GET https://there HTTP/1.1\r\nHost: here\r\n\r\n").body ==
        "GET / ?  from there: ");
  CHECK(client.ask("GET /http://x HTTP/1.1\r\nHost: here\r\n\r\n").body ==
        "GET /http://x ?  from here: ");
}

TEST_CASE("empty lines before a request are passed over", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  CHECK(client.ask("\r\n\n\r\n" + std::string(kGet)).status() == 200);
  CHECK(client.ask("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi\r\n").body ==
        "POST /a ?  from h: hi");
  CHECK(client.ask(kGet).status() == 200);
  REQUIRE(client.send("\r\n"));  // in a piece of its own
  CHECK(client.ask("\r\n" + std::string(kGet)).status() == 200);
}

TEST_CASE("a header beyond its limit is answered with 431", "[http]") {
  auto server = serve();
  std::string start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
  RawClient fits(server->port());
  size_t room = Limits().header_bytes - start.size() - 4;
  CHECK(fits.ask(start + std::string(room, 'x') + "\r\n\r\n").status() == 200);
  RawClient above(server->port());
  check_problem(above.ask(start + std::string(room + kSlack, 'x') + "\r\n\r\n"), 431);
  CHECK(above.closed());
  RawClient endless(server->port());
  check_problem(endless.ask(start + std::string(1 << 20, 'x')), 431);
}

TEST_CASE("a body beyond its limit is answered with 413, whatever is still on its way", "[http]") {
  auto server = serve();
  std::string fits(1 << 20, 'x');
  RawClient client(server->port());
  auto post = [](size_t size) {
    return fmt::format("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", size);
  };
  CHECK(client.ask(post(fits.size()) + fits).status() == 200);
  REQUIRE(client.send(post(8 << 20)));
  for (int i = 0; i < 8; ++i) client.send(fits);
  check_problem(client.reply(), 413);
  CHECK(client.closed());

  RawClient chunks(server->port());
  REQUIRE(chunks.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 2; ++i) chunks.send("100000\r\n" + fits + "\r\n");
  check_problem(chunks.reply(), 413);
}

TEST_CASE("the limit of a body can be set", "[http]") {
  auto server = serve({.body_bytes = 4});
  RawClient fits(server->port()), above(server->port());
  std::string post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ";
  CHECK(fits.ask(post + "4\r\n\r\n1234").status() == 200);
  check_problem(above.ask(post + "5\r\n\r\n12345"), 413);
}

TEST_CASE("a chunk's extension can't grow without end", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  REQUIRE(client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x="));
  for (int i = 0; i < 8; ++i) client.send(std::string(1 << 20, 'x'));
  check_problem(client.reply(), 431);
}

TEST_CASE("half a request and then silence is answered with 408", "[http]") {
  auto server = serve({.request_time = Millis(20)});
  for (std::string_view half : {"GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n",
                                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"}) {
    CAPTURE(half);
    RawClient client(server->port());
    check_problem(client.ask(half), 408);
    CHECK(client.closed());
  }
}

TEST_CASE("a byte now and then does not hold a connection", "[http]") {
  auto server = serve({.request_time = Millis(20)});
  RawClient client(server->port());
  std::string request(kGet);
  size_t sent = 0;
  // Each byte is sent after a while of its own: the limit is for the whole request.
  auto start = Mono::clock::now();
  while (Mono::clock::now() - start < Millis(200) && sent < request.size()) {
    auto next = start + Millis(5) * (sent + 1);
    while (Mono::clock::now() < next) poll(nullptr, 0, 1);
    if (!client.send(request.substr(sent++, 1))) break;
  }
  check_problem(client.reply(), 408);
}

TEST_CASE("an idle connection is closed without a word", "[http]") {
  auto server = serve({.idle_time = Millis(20)});
  RawClient silent(server->port()), used(server->port());
  CHECK(silent.closed());
  CHECK(used.closed());
  RawClient client(server->port());
  CHECK(client.ask(kGet).status() == 200);
  CHECK(client.closed());
}

TEST_CASE("a client that does not read its answer is let go", "[http]") {
  auto server = serve({.connections = 1, .request_time = Millis(20)});
  RawClient deaf(server->port());
  REQUIRE(deaf.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n"));
  // Its place is free again once the server has given up on it.
  int status = 503;
  for (int i = 0; status == 503 && i < 1000; ++i) {
    RawClient next(server->port());
    status = next.ask(kGet).status();
    if (status == 503) poll(nullptr, 0, 5);
  }
  CHECK(status == 200);
}

TEST_CASE("the connection above the maximum is answered with 503", "[http]") {
  auto server = serve();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 256; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->port()));
    REQUIRE(clients.back()->ask(kGet).status() == 200);
  }
  RawClient above(server->port());
  auto reply = above.ask(kGet);
  check_problem(reply, 503);
  CHECK(reply.has("Retry-After: 1\r\n"));
  CHECK(above.closed());
  CHECK(clients.front()->ask(kGet).status() == 200);
}

TEST_CASE("when all connections are in use, the one idle longest gives way", "[http]") {
  auto server = serve({.connections = 2, .crowded_idle_time = Millis(0)});
  RawClient first(server->port());
  REQUIRE(first.ask(kGet).status() == 200);
  RawClient second(server->port());
  REQUIRE(second.ask(kGet).status() == 200);
  RawClient third(server->port());
  CHECK(third.ask(kGet).status() == 200);
  CHECK(first.closed());
  CHECK(second.ask(kGet).status() == 200);
}

TEST_CASE("a health check is answered above the maximum of connections", "[http]") {
  auto server = serve({.connections = 2});
  RawClient used(server->port()), silent(server->port());
  REQUIRE(used.ask(kGet).status() == 200);
  for (const char* path : {"/healthz", "/readyz"}) {
    RawClient check(server->port());
    const auto reply = check.ask(fmt::format("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", path));
    CHECK(reply.status() == 200);
    CHECK(check.closed());
  }
  RawClient other(server->port());
  CHECK(other.ask(kGet).status() == 503);
}

TEST_CASE("a request for which there is no memory is answered with 503", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  const auto reply = client.ask("GET /starves HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(reply.status() == 503);
  CHECK(reply.has("Retry-After: 1\r\n"));
  CHECK(client.ask(kGet).status() == 200);
}

TEST_CASE("without descriptors the server closes an idle connection, and goes on", "[http]") {
  auto server = serve();
  RawClient idle(server->port());
  REQUIRE(idle.ask(kGet).status() == 200);
  std::vector<int> taken;  // every descriptor but the client's own
  RawClient client(server->port(), [&] {
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;) taken.push_back(fd);
  });
  CHECK(client.ask(kGet).status() == 200);
  CHECK(idle.closed());
  for (int fd : taken) close(fd);
}

TEST_CASE("many connections above the maximum are all answered with 503", "[http]") {
  auto server = serve({.connections = 1});
  RawClient first(server->port());
  REQUIRE(first.ask(kGet).status() == 200);
  std::vector<std::unique_ptr<RawClient>> above;
  for (int i = 0; i < 600; ++i) {
    above.push_back(std::make_unique<RawClient>(server->port()));
    REQUIRE(above.back()->send(kGet));
  }
  for (auto& client : above) {
    CHECK(client->reply().status() == 503);
    CHECK(client->closed());
    client.reset();
  }
  CHECK(first.ask(kGet).status() == 200);
}

TEST_CASE("a handler may answer later, and others meanwhile", "[http]") {
  std::vector<Responder> held;
  auto started = Server::start({}, LateHandler([&](Request request, Responder reply) {
                                 if (request.path == "/later")
                                   return held.push_back(std::move(reply));
                                 for (Responder& waiting : held)
                                   waiting(ok("text/plain", "at last"));
                                 held.clear();
                                 reply(ok("text/plain", "now"));
                               }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  RawClient later(server->port()), now(server->port());
  REQUIRE(later.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n"));
  REQUIRE(later.send(kGet));  // pipelined behind it
  while (now.ask(kGet).body == "now" && !later.readable()) {
  }
  CHECK(later.reply().body == "at last");
  CHECK(later.reply().body == "now");
  server->stop();
}

TEST_CASE("a handler that drops its reply is answered with 500", "[http]") {
  auto started = Server::start({}, LateHandler([](Request, Responder) {}));
  REQUIRE(started.ok());
  RawClient client((*started)->port());
  CHECK(client.ask(kGet).status() == 500);
}

TEST_CASE("a reply may outlive its connection and its server", "[http]") {
  std::vector<Responder> held;
  auto started = Server::start(
      {}, LateHandler([&](Request, Responder reply) { held.push_back(std::move(reply)); }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  {
    RawClient client(server->port());
    REQUIRE(client.send(kGet));
    RawClient second(server->port());
    REQUIRE(second.send(kGet));
  }
  server->drain(Millis(50));
  server->stop();
  for (Responder& reply : held) reply(ok("text/plain", "nobody reads this"));
}

TEST_CASE("who closed its side while waiting gives way when all connections are in use", "[http]") {
  std::vector<Responder> held;
  std::atomic<int> asked{0}, departed{0};
  ServerOptions options;
  options.limits = {.connections = 2};
  auto started = Server::start(options, LateHandler([&](Request request, Responder reply) {
                                 if (request.path == "/now") return reply(ok("text/plain", "now"));
                                 reply.on_departure([&] { ++departed; });
                                 held.push_back(std::move(reply));
                                 ++asked;
                               }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  constexpr std::string_view kNow = "GET /now HTTP/1.1\r\nHost: h\r\n\r\n";
  RawClient stays(server->port());
  REQUIRE(stays.send(kGet));
  auto leaves = std::make_unique<RawClient>(server->port());
  REQUIRE(leaves->send(kGet));
  REQUIRE(leaves->send(kNow));  // pipelined: the end of the stream is behind it
  while (asked < 2) std::this_thread::yield();
  {
    RawClient refused(server->port());
    CHECK(refused.ask(kNow).status() == 503);
  }
  CHECK(departed == 0);
  leaves.reset();
  for (int status = 0; status != 200;) status = RawClient(server->port()).ask(kNow).status();
  CHECK(departed == 1);
  CHECK(server->connections() <= 2);
  server->post([&] {
    for (Responder& reply : held) reply(ok("text/plain", "at last"));
  });
  CHECK(stays.reply().body == "at last");
  server->stop();
  CHECK(departed == 1);
}

TEST_CASE("the places of all that leave while they wait are free at once", "[http]") {
  constexpr size_t kClients = 40;
  std::vector<Responder> held;
  std::atomic<size_t> asked{0}, departed{0};
  auto started = Server::start({}, LateHandler([&](Request, Responder reply) {
                                 reply.on_departure([&] { ++departed; });
                                 held.push_back(std::move(reply));
                                 ++asked;
                               }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  auto leave_together = [&] {
    std::vector<std::unique_ptr<RawClient>> clients;
    asked = departed = 0;
    for (size_t i = 0; i < kClients; ++i) {
      clients.push_back(std::make_unique<RawClient>(server->port()));
      REQUIRE(clients.back()->send(kGet));
      if (i % 2 == 0) REQUIRE(clients.back()->send(kGet));  // the end stands behind it
    }
    while (asked < kClients) std::this_thread::yield();
    clients.clear();
    const Mono left = Mono::clock::now();
    while (server->connections() > 0 && Mono::clock::now() < left + Millis(5000))
      std::this_thread::yield();
    CHECK(server->connections() == 0);
    CHECK(departed == kClients);
    return Mono::clock::now() - left;
  };
  auto best = leave_together();  // of some, for the machine may be busy
  for (int more = 0; more < 4 && best >= Millis(100); ++more)
    best = std::min(best, leave_together());
  CHECK(best < Millis(100));
  server->stop();
}

TEST_CASE("who closes only its sending half while it waits gets the whole answer", "[http]") {
  std::vector<Responder> held;
  std::atomic<bool> departed{false};
  auto started = Server::start({}, LateHandler([&](Request, Responder reply) {
                                 reply.on_departure([&] { departed = true; });
                                 held.push_back(std::move(reply));
                               }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  RawClient client(server->port());
  REQUIRE(client.send(kGet));
  REQUIRE(client.send(kGet));  // pipelined behind it
  client.finish();
  while (!client.readable()) {
  }  // it was found out whether it still reads
  for (const char* text : {"first", "second"}) {
    std::atomic<bool> answered{false};
    while (!answered) {
      std::atomic<bool> looked{false};
      server->post([&] {
        if (!held.empty()) {
          std::exchange(held, {}).front()(ok("text/plain", text));
          answered = true;
        }
        looked = true;
      });
      while (!looked) std::this_thread::yield();
    }
    const RawReply reply = client.reply();
    CHECK(reply.head.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(reply.body == text);
  }
  CHECK(client.closed());
  CHECK_FALSE(departed);
  server->stop();
}

TEST_CASE("a gate answers before the body is sent, and sets its limit", "[http]") {
  ServerOptions options;
  options.gate = [](const Request& head) {
    Admission admission;
    if (head.path == "/no") admission.refusal = problem(403, "no");
    if (head.path == "/large") admission.body_bytes = 2 << 20;
    return admission;
  };
  auto started = Server::start(options, echo);
  REQUIRE(started.ok());
  auto server = *std::move(started);
  RawClient refused(server->port());
  auto reply = refused.ask(
      "POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  check_problem(reply, 403);
  CHECK(refused.closed());
  RawClient bodiless(server->port());
  CHECK(bodiless.ask("GET /no HTTP/1.1\r\nHost: h\r\n\r\n").status() == 403);
  CHECK(bodiless.ask(kGet).status() == 200);  // nothing was left unread
  const std::string body((2 << 20) - 1, 'x');
  RawClient large(server->port()), usual(server->port());
  auto post = [&](const char* path) {
    return fmt::format("POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", path,
                       body.size());
  };
  REQUIRE(large.send(post("/large") + body));
  CHECK(large.reply().status() == 200);
  CHECK(usual.ask(post("/usual")).status() == 413);
}

TEST_CASE("bodies of all requests together have a limit", "[http]") {
  auto server = serve({.body_bytes = 64 << 10, .all_body_bytes = 100 << 10});
  const std::string half(60 << 10, 'x');
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 61441\r\n\r\n";
  RawClient first(server->port()), second(server->port());
  REQUIRE(first.send(post + half));  // a byte is missing
  REQUIRE(second.send(post + half));
  RawClient& refused = second.readable() || !first.readable() ? second : first;
  RawClient& taken = &refused == &second ? first : second;
  auto reply = refused.reply();
  check_problem(reply, 503);
  CHECK(reply.has("Retry-After: 1\r\n"));
  CHECK(taken.ask("x").status() == 200);
  CHECK(taken.ask(post + half + "x").status() == 200);
}

TEST_CASE("a draining server answers what it has, and takes nothing more", "[http]") {
  std::optional<Responder> held;
  auto started = Server::start({}, LateHandler([&](Request request, Responder reply) {
                                 if (request.path == "/later") {
                                   held.emplace(std::move(reply));
                                 } else {
                                   reply(ok("text/plain", held ? "held" : ""));
                                 }
                               }));
  REQUIRE(started.ok());
  auto server = *std::move(started);
  RawClient idle(server->port()), busy(server->port());
  REQUIRE(busy.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n"));
  while (idle.ask(kGet).body != "held") {
  }
  std::thread drain([&] { server->drain(Millis(10'000)); });
  CHECK(idle.closed());
  server->post([&] { (*held)(ok("text/plain", "done")); });
  auto reply = busy.reply();
  CHECK(reply.body == "done");
  CHECK(reply.has("Connection: close\r\n"));
  CHECK(busy.closed());
  drain.join();
  CHECK(server->connections() == 0);
  server->stop();
}

TEST_CASE("a client that has sent all and closed its half gets its answer", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  REQUIRE(client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"));
  client.finish();
  CHECK(client.reply().body == "POST / ?  from h: hi");
  CHECK(client.closed());
}

TEST_CASE("HTTP/1.0 is told when the connection stays", "[http]") {
  auto server = serve();
  RawClient client(server->port());
  for (int i = 0; i < 2; ++i) {
    auto reply = client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(reply.has("Connection: keep-alive\r\n"));
  }
}

TEST_CASE("a client that leaves early does no harm", "[http]") {
  auto server = serve();
  for (std::string_view part : {"", "GET / HT", "GET /large HTTP/1.1\r\nHost: h\r\n\r\n"}) {
    RawClient client(server->port());
    if (!part.empty()) client.send(part);
  }
  RawClient client(server->port());
  CHECK(client.ask(kGet).status() == 200);
}

TEST_CASE("stop closes the connections and frees the port", "[http]") {
  auto server = serve();
  RawClient idle(server->port()), busy(server->port());
  CHECK(busy.ask(kGet).status() == 200);
  CHECK(idle.ask(kGet).status() == 200);
  server->stop();
  CHECK(idle.closed());
  CHECK(busy.closed());
  ServerOptions options;
  options.address.port = server->port();
  CHECK(Server::start(options, echo).ok());
  server->stop();
}

TEST_CASE("an address that can't be had is an error that names it and the flag", "[http]") {
  auto server = serve();
  auto fails = [](std::string host, uint16_t port) {
    ServerOptions options;
    options.address = {std::move(host), port};
    auto started = Server::start(options, echo);
    REQUIRE_FALSE(started.ok());
    CHECK(started.error().code == ExitCode::cant_create);
    CHECK(started.error().message.find(options.address.authority()) != std::string::npos);
    CHECK(started.error().message.find("--http") != std::string::npos);
    return started.error().message;
  };
  CHECK(fails("127.0.0.1", server->port()).find("another program") != std::string::npos);
  CHECK(fails("192.0.2.1", 0).find("no such address") != std::string::npos);
  CHECK(fails("no.such.host.invalid", 0).find("can't be resolved") != std::string::npos);
}

}  // namespace millrace::http
