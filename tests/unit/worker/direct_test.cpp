#include "worker/direct/direct.h"
#include "tests/catch.h"
#include "worker/process/spawner.h"

using namespace millrace;
using namespace millrace::worker;

namespace {

Direct direct(std::string_view handler) {
  static Spawner spawner;  // outlives every handler
  auto made = make_handler(handler, spawner, {});
  REQUIRE(made);
  return Direct(*std::move(made));
}

http::Response ask(Direct& direct, std::string method, std::string path, std::string body = "") {
  http::Request request;
  request.method = std::move(method);
  request.path = std::move(path);
  request.body = std::move(body);
  return direct.answer(request);
}

}  // namespace

TEST_CASE("a request is answered with its result when the handler has run", "[direct]") {
  Direct server = direct("echo");
  auto answer = ask(server, "POST", "/v1/queues/greet/jobs", "hello");
  CHECK(answer.status == 200);
  CHECK(answer.content_type == "application/json");
  CHECK(answer.body == "{\"state\":\"done\",\"attempts\":1,\"result\":\"hello\"}\n");
  CHECK(ask(server, "POST", "/v1/queues/greet/jobs", "\xff").body ==
        "{\"state\":\"done\",\"attempts\":1,\"result_base64\":\"/w==\"}\n");
  CHECK(server.done() == 2);
  CHECK(server.failed() == 0);
}

TEST_CASE("a command's output is the result of its request", "[direct]") {
  Direct server = direct("exec:cat");
  auto answer = ask(server, "POST", "/v1/queues/q/jobs", "hello");
  CHECK(answer.status == 200);
  CHECK(answer.body == "{\"state\":\"done\",\"attempts\":1,\"result\":\"hello\"}\n");
}

TEST_CASE("a handler that fails is an error of the server", "[direct]") {
  Direct server = direct("fail:100");
  auto answer = ask(server, "POST", "/v1/queues/q/jobs", "x");
  CHECK(answer.status == 500);
  CHECK(answer.content_type == "application/problem+json");
  CHECK(answer.body.find("as fail:100 asks for") != std::string::npos);
  CHECK(server.done() == 0);
  CHECK(server.failed() == 1);
  CHECK(ask(server, "GET", "/v1/status").body.find("\"totals\":{\"done\":0,\"failed\":1}") !=
        std::string::npos);
}

TEST_CASE("a web page of another site runs nothing and reads nothing", "[direct]") {
  Direct server = direct("echo");
  auto ask_as = [&server](std::string method, std::string path, http::Headers headers) {
    http::Request request;
    request.method = std::move(method);
    request.path = std::move(path);
    request.headers = std::move(headers);
    return server.answer(request).status;
  };
  const http::Headers foreign_page{{"Host", "127.0.0.1:5595"}, {"Origin", "http://evil.example"}};
  const http::Headers rebound_name{{"Host", "evil.example"}, {"Origin", "http://evil.example"}};
  for (const http::Headers& headers : {foreign_page, rebound_name}) {
    CHECK(ask_as("POST", "/v1/queues/q/jobs", headers) == 403);
    CHECK(ask_as("GET", "/v1/status", headers) == 403);
    CHECK(ask_as("GET", "/healthz", headers) == 200);
  }
  CHECK(server.done() == 0);
  CHECK(ask_as("POST", "/v1/queues/q/jobs", {{"Host", "localhost:5595"}}) == 200);
}

TEST_CASE("what is not a job runs nothing", "[direct]") {
  Direct server = direct("echo");
  CHECK(ask(server, "GET", "/healthz").status == 200);
  CHECK(ask(server, "POST", "/healthz").status == 405);
  CHECK(ask(server, "GET", "/v1/queues/q/jobs").status == 405);
  CHECK(ask(server, "POST", "/v1/queues//jobs").status == 404);
  CHECK(ask(server, "POST", "/v1/queues/jobs").status == 404);
  CHECK(ask(server, "POST", "/v1/queues/q/jobs/1").status == 404);
  CHECK(ask(server, "POST", "/v1/queues/a b/jobs").status == 400);
  CHECK(server.done() + server.failed() == 0);
}

TEST_CASE("a handler that runs returns when the server stops", "[direct]") {
  Direct server = direct("sleep:1h");
  server.stop();
  CHECK(ask(server, "POST", "/v1/queues/q/jobs").status == 500);
  CHECK(server.failed() == 1);
}
