#include "broker/admin/admin_server.h"

#include <fmt/format.h>

#include <atomic>
#include <barrier>
#include <nlohmann/json.hpp>

#include "broker/admin/status_json.h"
#include "broker/cli/operation_commands.h"
#include "broker/cli/status_command.h"
#include "common/http/client.h"
#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

constexpr Millis kTimeout{10'000};

// A broker's HTTP side on a free port, over a core that answers at once.
struct Broker {
  explicit Broker(std::string token = "") {
    AdminOptions options;
    options.http.port = 0;
    options.token = std::move(token);
    auto started = AdminServer::start(options, publisher, admin_queue);
    REQUIRE(started.ok());
    server = *std::move(started);
  }
  Endpoint address() const { return {"127.0.0.1", server->port()}; }

  StatusPublisher publisher{[this] { publisher.publish(status); }};
  Status status = sample_status();
  // A core that knows of one job, and is glad of whatever else it is asked.
  AdminQueue admin_queue{[this] {
    for (const AdminRequest& request : admin_queue.take())
      admin_queue.answer(request.number, answer_to(request.operation));
  }};
  static Answer answer_to(const Operation& operation) {
    if (auto* show = std::get_if<ShowJob>(&operation); show && show->job.job != JobId{42})
      return http::problem(404, "there is no such job");
    return http::ok(
        "application/json",
        R"({"id":"3f9a1c07-42","state":"ready","why":"queue q is paused","cancelled":1,"purged":2,)"
        R"("retried":3,"dropped":1,"queues":[],"dead":[],"count":0,"next":null,"now_ms":0,"name":"q","settings":)" +
            json_text(settings_json({})) + "}");
  }
  std::unique_ptr<AdminServer> server;
};

int run(Texts words) {
  Options options("millrace-broker", "a program for tests");
  add_status_command(options);
  add_operation_commands(options);
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
  StatusPublisher publisher([] {});
  AdminQueue admin_queue([] {});
  for (const char* host : {"0.0.0.0", "::", "192.0.2.1"}) {
    AdminOptions options;
    options.http = {host, 5580};
    auto refused = AdminServer::start(options, publisher, admin_queue);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ExitCode::config);
    CHECK(refused.error().message.find("--http-token") != std::string::npos);
    CHECK(refused.error().message.find(host) != std::string::npos);
  }
  AdminOptions options;  // an address that no machine has: the token is not what stops it
  options.http = {"192.0.2.1", 5580};
  options.token = "secret";
  auto refused = AdminServer::start(options, publisher, admin_queue);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ExitCode::cant_create);
}

TEST_CASE("a port in use is exit 73", "[admin]") {
  Broker broker;
  StatusPublisher publisher([] {});
  AdminQueue admin_queue([] {});
  AdminOptions options;
  options.http = broker.address();
  auto refused = AdminServer::start(options, publisher, admin_queue);
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

TEST_CASE("status of several: all are shown, and one that can't be asked is exit 69", "[admin]") {
  Broker first, second, other("secret");
  second.status.broker = "00c0ffee";
  const std::string both = first.address().authority() + "," + second.address().authority();
  CHECK(run({"status", "--http", both}) == 0);
  CHECK(run({"status", "--http", both, "--json"}) == 0);
  CHECK(run({"status", "--http", both + "," + other.address().authority()}) == 69);
  CHECK(run({"status", "--http", both + "," + both}) == 64);
  CHECK(run({"status", "--http",
             first.address().authority() + fmt::format(",localhost:{}", first.address().port)}) ==
        78);
  second.server->stop();
  CHECK(run({"status", "--http", both}) == 69);
  CHECK(run({"status", "--http", both, "--json"}) == 69);
}

TEST_CASE("brokers that are silent are waited for together, not one after the other", "[admin]") {
  // Each answers when both have been asked.
  std::barrier both_asked(2);
  std::atomic<int> answered{0};
  auto answer = [&](const http::Request&) {
    both_asked.arrive_and_wait();
    Status status = sample_status();
    if (answered++ > 0) status.broker = "00c0ffee";
    return http::ok("application/json", json_text(status_json(status)));
  };
  auto first = http::Server::start({}, answer), second = http::Server::start({}, answer);
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  CHECK(run({"status", "--http",
             fmt::format("127.0.0.1:{},127.0.0.1:{}", (*first)->port(), (*second)->port())}) == 0);
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

TEST_CASE("operations by command", "[admin]") {
  Broker broker;
  std::string http = broker.address().authority();
  auto says = [&](Texts words) {
    words.insert(words.end(), {"--http", http});
    return run(std::move(words));
  };
  for (Texts good : std::initializer_list<Texts>{
           {"job", "show", "3f9a1c07-42"},
           {"job", "why", "42", "--json"},
           {"job", "cancel", "42"},
           {"queue", "ls"},
           {"queue", "pause", "q"},
           {"queue", "set", "q", "--weight", "3", "--backoff", "1s..2s", "--ttl", "0s"},
           {"queue", "purge", "q"},
           {"dead", "ls"},
           {"dead", "retry", "42"},
           {"dead", "drop", "--queue", "q", "--error", "no", "--older", "1h"}})
    CHECK(says(good) == 0);
  CHECK(says({"job", "show", "43"}) == 65);
  broker.server->stop();
  CHECK(says({"job", "show", "42"}) == 69);
}

TEST_CASE("a command that doesn't say what it means is exit 64, before anyone is asked",
          "[admin]") {
  for (Texts wrong : std::initializer_list<Texts>{{"job"},
                                                  {"job", "kill", "42"},
                                                  {"job", "show"},
                                                  {"job", "show", "x/../y"},
                                                  {"queue"},
                                                  {"queue", "stop", "q"},
                                                  {"queue", "set", "q"},
                                                  {"queue", "purge"},
                                                  {"queue", "purge", "a b"},
                                                  {"queue", "pause", "q", "--weight", "3"},
                                                  {"queue", "set", "q", "--order", "lifo"},
                                                  {"queue", "ls", "a b"},
                                                  {"dead", "retry"},
                                                  {"dead", "drop"},
                                                  {"dead", "bury"},
                                                  {"dead", "ls", "42"},
                                                  {"dead", "drop", "42", "--all"},
                                                  {"dead", "drop", "--older", "0s"}}) {
    CAPTURE(wrong);
    wrong.insert(wrong.end(), {"--http", "127.0.0.1:1"});
    CHECK(run(wrong) == 64);
  }
}

TEST_CASE("a variable that is meant for serve does not change a queue", "[admin]") {
  setenv("MILLRACE_LEASE", "nonsense", 1);
  setenv("MILLRACE_QUEUE", "mail", 1);
  CHECK(run({"queue", "ls", "--http", "127.0.0.1:1"}) == 69);
  CHECK(run({"dead", "drop", "--http", "127.0.0.1:1"}) == 64);
  unsetenv("MILLRACE_LEASE");
  unsetenv("MILLRACE_QUEUE");
}

}  // namespace millrace::admin
