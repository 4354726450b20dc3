#include "broker/admin/admin_server.h"

#include <nlohmann/json.hpp>

#include "broker/admin/status_command.h"
#include "common/http/client.h"
#include "tests/catch.h"
#include "tests/unit/admin_sample.h"

namespace millrace::admin {
namespace {

constexpr Millis kTimeout{10'000};

// A broker's HTTP side on a free port, over a core that answers at once.
struct Broker {
  explicit Broker(std::string token = "") {
    AdminOptions options;
    options.http.port = 0;
    options.token = std::move(token);
    auto started = AdminServer::start(options, snapshots);
    REQUIRE(started.ok());
    server = *std::move(started);
  }
  Endpoint address() const { return {"127.0.0.1", server->port()}; }

  Snapshots snapshots{[this] { snapshots.publish(sample_status()); }};
  std::unique_ptr<AdminServer> server;
};

int run(Texts words) {
  Options options("millrace-broker", "a program for tests");
  add_status_command(options);
  add_dead_command(options);
  words.insert(words.begin(), "millrace-broker");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return options.run(static_cast<int>(argv.size()), argv.data());
}

}  // namespace

TEST_CASE("the broker's status can be had over HTTP", "[admin]") {
  Broker broker;
  auto reply = http::get(broker.address(), "/v1/status", kTimeout);
  REQUIRE(reply.ok());
  CHECK(nlohmann::json::parse(reply->body)["jobs"]["ready"] == 1212);
}

TEST_CASE("beyond loopback a token is needed", "[admin]") {
  Snapshots snapshots([] {});
  for (const char* host : {"0.0.0.0", "::", "192.0.2.1"}) {
    AdminOptions options;
    options.http = {host, 5580};
    auto refused = AdminServer::start(options, snapshots);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ExitCode::config);
    CHECK(refused.error().message.find("--http-token") != std::string::npos);
    CHECK(refused.error().message.find(host) != std::string::npos);
  }
  AdminOptions options;  // an address that no machine has: the token is not what stops it
  options.http = {"192.0.2.1", 5580};
  options.token = "secret";
  auto refused = AdminServer::start(options, snapshots);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::cant_create);
}

TEST_CASE("a port in use is exit 73", "[admin]") {
  Broker broker;
  Snapshots snapshots([] {});
  AdminOptions options;
  options.http = broker.address();
  auto refused = AdminServer::start(options, snapshots);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::cant_create);
  CHECK(refused.error().message.find("--http") != std::string::npos);
}

TEST_CASE("status and dead print what the broker says", "[admin]") {
  Broker broker;
  std::string http = broker.address().authority();
  for (const char* command : {"status", "dead"}) {
    CHECK(run({command, "--http", http}) == 0);
    CHECK(run({command, "--http", http, "--json"}) == 0);
  }
}

TEST_CASE("status of nobody is exit 69, and without the token 78", "[admin]") {
  Broker broker("secret");
  std::string http = broker.address().authority();
  CHECK(run({"status", "--http", http}) == 78);
  CHECK(run({"status", "--http", http, "--http-token", "wrong"}) == 78);
  CHECK(run({"status", "--http", http, "--http-token", "secret"}) == 0);
  broker.server->stop();
  CHECK(run({"status", "--http", http}) == 69);
  CHECK(run({"dead", "--http", http}) == 69);
}

TEST_CASE("status of something else is exit 65, and of a silent core 75", "[admin]") {
  std::string body = "{\"state\":1}";
  int status = 200;
  auto server = http::Server::start({}, [&](const http::Request&) {
    return status == 200 ? http::ok("application/json", body) : http::problem(status, "no");
  });
  REQUIRE(server.ok());
  std::string http = Endpoint{"127.0.0.1", (*server)->port()}.authority();
  CHECK(run({"status", "--http", http}) == 65);
  body = "hello";
  CHECK(run({"status", "--http", http, "--json"}) == 65);
  status = 404;
  CHECK(run({"status", "--http", http}) == 65);
  status = 503;
  CHECK(run({"status", "--http", http}) == 75);
}

}  // namespace millrace::admin
