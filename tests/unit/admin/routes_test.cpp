#include "broker/admin/routes.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

// Routes over a core that answers at once, or not at all.
struct Broker {
  explicit Broker(std::string token = "")
      : routes(publisher, admin_queue, std::move(token), Millis(1)) {
    status = sample_status();
  }
  Status status;
  bool answers = true;
  StatusPublisher publisher{[this] {
    if (answers) publisher.publish(status);
  }};
  AdminQueue admin_queue{[] {}};
  Routes routes;

  http::Response get(std::string path, std::string authorization = "", std::string method = "GET") {
    http::Request request;
    request.method = std::move(method);
    request.path = std::move(path);
    if (!authorization.empty()) request.headers.emplace_back("authorization", authorization);
    return routes.answer(request);
  }
};

bool has_header(const http::Response& response, const std::string& name, const std::string& value) {
  for (const auto& header : response.headers) {
    if (header == std::pair(name, value)) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("each path has its form of the snapshot", "[admin]") {
  Broker broker;
  for (const char* key : {"status", "queues", "workers"}) {
    auto response = broker.get(std::string("/v1/") + key);
    CHECK(response.status == 200);
    CHECK(response.content_type == "application/json");
    auto body = nlohmann::json::parse(response.body);
    CHECK(body.contains(key == std::string("status") ? "journal" : key));
  }
  auto metrics = broker.get("/metrics");
  CHECK(metrics.content_type == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(metrics.body.find("millrace_jobs{") != std::string::npos);
}

TEST_CASE("the page needs nothing from elsewhere", "[admin]") {
  auto page = Broker().get("/");
  CHECK(page.status == 200);
  CHECK(page.content_type == "text/html; charset=utf-8");
  CHECK(page.body.starts_with("<!doctype html>"));
  CHECK(page.body.ends_with("</html>\n"));
  for (const char* outside : {"src=\"", "https://", "@import", "url(", "innerHTML"}) {
    CAPTURE(outside);
    CHECK(page.body.find(outside) == std::string::npos);
  }
}

TEST_CASE("other paths and methods are refused", "[admin]") {
  Broker broker;
  CHECK(broker.get("/v1/nothing").status == 404);
  CHECK(broker.get("/v1/status/").status == 404);
  CHECK(broker.get("").status == 404);
  for (const char* path : {"/", "/v1/status", "/metrics"}) {
    auto response = broker.get(path, "", "POST");
    CHECK(response.status == 405);
    CHECK(has_header(response, "Allow", "GET, HEAD"));
  }
}

TEST_CASE("health is that the core answers, readiness that it serves", "[admin]") {
  Broker broker;
  CHECK(broker.get("/healthz").status == 200);
  CHECK(broker.get("/readyz").status == 200);
  broker.status.journal.rejecting = true;
  CHECK(broker.get("/readyz").status == 503);
  CHECK(broker.get("/readyz").body.find("disk") != std::string::npos);
  broker.status.journal.rejecting = false;
  broker.status.state = "draining";
  CHECK(broker.get("/healthz").status == 200);
  auto draining = broker.get("/readyz");
  CHECK(draining.status == 503);
  CHECK(draining.body.find("draining") != std::string::npos);
  CHECK(broker.get("/v1/status").status == 200);
}

TEST_CASE("a core that does not answer is 503 everywhere but on the page", "[admin]") {
  Broker broker;
  broker.publisher.publish(broker.status);
  broker.answers = false;
  for (const char* path : {"/healthz", "/readyz", "/v1/status", "/v1/workers", "/metrics"}) {
    auto response = broker.get(path);
    CHECK(response.status == 503);
    CHECK(has_header(response, "Retry-After", "1"));
  }
  CHECK(broker.get("/").status == 200);
  CHECK(Broker().get("/healthz").status == 200);
}

TEST_CASE("a broker that recovers is healthy, visible and not ready", "[admin]") {
  Broker broker;
  broker.status.state = "recovering";
  broker.publisher.publish(broker.status);
  broker.answers = false;
  CHECK(broker.get("/healthz").status == 200);
  CHECK(broker.get("/readyz").status == 503);
  auto status = nlohmann::json::parse(broker.get("/v1/status").body);
  CHECK(status["state"] == "recovering");
}

TEST_CASE("with a token everything but the page and the health checks needs it", "[admin]") {
  Broker broker("open sesame");
  for (const char* path : {"/", "/healthz", "/readyz"}) CHECK(broker.get(path).status == 200);
  for (const char* path : {"/v1/status", "/v1/workers", "/metrics"}) {
    for (const char* wrong :
         {"", "open sesame", "Bearer ", "Bearer open sesam", "Bearer open sesame!",
          "Bearer Open sesame", "Basic open sesame", "Bearer open sesameopen sesame"}) {
      CAPTURE(path, wrong);
      auto response = broker.get(path, wrong);
      CHECK(response.status == 401);
      CHECK(has_header(response, "WWW-Authenticate", "Bearer"));
      CHECK(response.body.find("sesame") == std::string::npos);
    }
    CHECK(broker.get(path, "Bearer open sesame").status == 200);
  }
}

}  // namespace millrace::admin
