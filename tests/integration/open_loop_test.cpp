#include "tests/load/open_loop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "common/http/server.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::load;

namespace {

Plan plan(uint16_t port, uint64_t count, Millis timeout) {
  return {.server = {"127.0.0.1", port},
          .target = "/v1/queues/q/jobs",
          .body = "payload",
          .rate = 1000,
          .count = count,
          .timeout = timeout};
}

Outcome outcome(const Plan& plan) {
  auto out = run(plan);
  REQUIRE(out);
  CHECK(out->offered == plan.count);
  CHECK(out->answered + out->refused + out->timed_out + out->unreachable + out->cut == plan.count);
  return *std::move(out);
}

// A port on which connections wait for ever: they are never accepted.
struct Deaf {
  Deaf() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(fd, 5) == 0);
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
  }
  ~Deaf() { close(fd); }
  int fd;
  uint16_t port = 0;
};

}  // namespace

TEST_CASE("requests are counted by what became of them", "[load]") {
  std::atomic<int> served = 0;
  auto server = http::Server::start({.address = {"127.0.0.1", 0}, .limits = {}},
                                    [&served](const http::Request& request) -> http::Response {
                                      CHECK(request.body == "payload");
                                      if (served++ % 4 == 3) return http::problem(503, "full");
                                      return {202, "text/plain", "ok", {}};
                                    });
  REQUIRE(server);
  auto out = outcome(plan((*server)->port(), 1200, Millis(10'000)));
  CHECK(out.answered == 900);
  CHECK(out.refused == 300);
  CHECK(out.statuses == std::map<int, uint64_t>{{202, 900}, {503, 300}});
  CHECK(out.latency.count() == 900);
  CHECK(served == 1200);
  REQUIRE(out.seconds.size() == 2);
  CHECK(out.seconds[0].offered == 1000);
  CHECK(out.seconds[1].offered == 200);
}

TEST_CASE("a server that is silent does not slow the load down", "[load]") {
  Deaf server;
  auto out = outcome(plan(server.port, 100, Millis(300)));
  CHECK(out.timed_out == 100);
  CHECK(out.connections == 100);  // 100 ms of load, and none was given back before 300 ms
}

TEST_CASE("latency counts from when a request was due", "[load]") {
  auto server = http::Server::start({.address = {"127.0.0.1", 0}, .limits = {}},
                                    [](const http::Request&) -> http::Response {
                                      usleep(2000);  // half of what the rate wants
                                      return {200, "text/plain", "ok", {}};
                                    });
  REQUIRE(server);
  auto out = outcome(plan((*server)->port(), 100, Millis(20'000)));
  CHECK(out.answered == 100);
  CHECK(out.latency.max() >= 90'000);  // the last was due after 100 ms, and 200 ms are needed
}

TEST_CASE("where nobody listens requests are unreachable", "[load]") {
  uint16_t port = Deaf().port;
  CHECK(outcome(plan(port, 50, Millis(1000))).unreachable == 50);
}
