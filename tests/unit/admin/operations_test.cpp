// Which requests become which operations, and which are refused before the core hears of them.
#include <nlohmann/json.hpp>

#include "broker/admin/routes.h"
#include "tests/catch.h"
#include "tests/unit/admin/admin_sample.h"

namespace millrace::admin {
namespace {

// Routes over a core that keeps what it is asked, and says ok.
struct Broker {
  explicit Broker(std::string token = "")
      : routes(publisher, admin_queue, std::move(token), Millis(1)) {}
  std::vector<Operation> asked;
  bool answers = true, takes = true;
  StatusPublisher publisher{[this] { publisher.publish(sample_status()); }};
  AdminQueue admin_queue{[this] {
    if (!takes) return;
    for (AdminRequest& request : admin_queue.take()) {
      asked.push_back(std::move(request.operation));
      if (answers) admin_queue.answer(request.number, http::ok("application/json", "{}"));
    }
  }};
  Routes routes;

  http::Request request(std::string method, std::string path, std::string body = "") {
    http::Request made;
    made.method = std::move(method);
    made.path = std::move(path);
    made.headers = {{"Host", "127.0.0.1:5580"}};
    if (!body.empty()) made.headers.emplace_back("Content-Type", "application/json");
    made.body = std::move(body);
    return made;
  }
  http::Response send(std::string method, std::string path, std::string body = "") {
    return routes.answer(request(std::move(method), std::move(path), std::move(body)));
  }
  // The only operation that a request led to.
  template <typename What>
  What only(std::string method, std::string path, std::string body = "") {
    asked.clear();
    CHECK(send(std::move(method), std::move(path), std::move(body)).status == 200);
    REQUIRE(asked.size() == 1);
    REQUIRE(std::holds_alternative<What>(asked[0]));
    return std::get<What>(asked[0]);
  }
};

std::string detail(const http::Response& response) {
  return nlohmann::json::parse(response.body).value("detail", "");
}

}  // namespace

TEST_CASE("a job is named in full or by its number", "[admin]") {
  Broker broker;
  auto full = broker.only<ShowJob>("GET", "/v1/jobs/3f9a1c07-42").job;
  CHECK(full.broker == BrokerId{0x3f9a1c07});
  CHECK(full.job == JobId{42});
  CHECK_FALSE(broker.only<ShowJob>("GET", "/v1/jobs/42").job.broker);
  CHECK(broker.only<CancelJob>("POST", "/v1/jobs/42/cancel").job.job == JobId{42});
  for (const char* wrong : {"/v1/jobs/x", "/v1/jobs/3f9a1c07-", "/v1/jobs/4 2", "/v1/jobs/-1",
                            "/v1/jobs/", "/v1/jobs/1/2"})
    CHECK(broker.send("GET", wrong).status == 404);
}

TEST_CASE("a listing of jobs is asked for by its query", "[admin]") {
  Broker broker;
  auto list = [&](const char* query) {
    http::Request request = broker.request("GET", "/v1/jobs");
    request.query = query;
    broker.asked.clear();
    return broker.routes.answer(request);
  };
  CHECK(list("").status == 200);
  CHECK(std::get<ListJobs>(broker.asked.at(0)).limit == 100);
  CHECK(list("queue=mail&state=ready,retry-wait&worker=h%3A1&error=no+luck&age=2m&limit=7&"
             "cursor=3f9a1c07-43")
            .status == 200);
  const auto asked = std::get<ListJobs>(broker.asked.at(0));
  CHECK(asked.filter.queue == "mail");
  CHECK(asked.filter.wants(protocol::JobState::retry_wait));
  CHECK_FALSE(asked.filter.wants(protocol::JobState::dead));
  CHECK(asked.filter.worker == "h:1");
  CHECK(asked.filter.error == "no luck");
  CHECK(asked.filter.age == Millis(120'000));
  CHECK(asked.limit == 7);
  CHECK(asked.cursor.job == JobId{43});
  struct Case {
    const char* query;
    int status;
    const char* named;
  };
  for (auto [query, status, named] :
       {Case{"stat=ready", 400, "stat"}, Case{"state=done", 422, "GET /v1/jobs/ID"},
        Case{"state=", 422, "state"}, Case{"limit=0", 422, "limit"},
        Case{"limit=1001", 422, "1000"}, Case{"age=2", 422, "age"}, Case{"cursor=43", 422, "next"},
        Case{"queue=a%2Fb", 422, "a/b"}, Case{"key=k", 400, "queue"},
        Case{"error=%zz", 400, "encoded"}, Case{"limit=1&limit=2", 400, "twice"}}) {
    CAPTURE(query);
    const auto refused = list(query);
    CHECK(refused.status == status);
    CHECK(detail(refused).find(named) != std::string::npos);
    CHECK(broker.asked.empty());
  }
}

TEST_CASE("a listing of dead jobs is asked for by its query", "[admin]") {
  Broker broker;
  auto list = [&](const char* query) {
    http::Request request = broker.request("GET", "/v1/dead");
    request.query = query;
    broker.asked.clear();
    return broker.routes.answer(request);
  };
  CHECK(list("").status == 200);
  CHECK(std::get<ListDead>(broker.asked.at(0)).limit == 1000);
  CHECK(list("queue=q&worker=w&error=e&age=1h&group=error&limit=3&cursor=17.4").status == 200);
  const auto asked = std::get<ListDead>(broker.asked.at(0));
  CHECK(asked.grouped);
  CHECK(asked.filter.age == Millis(3'600'000));
  CHECK(asked.cursor == std::pair(wall_from_int(17), JobId{4}));
  for (const char* wrong : {"group=queue", "cursor=17", "cursor=x.4", "cursor=17.4x", "limit=0"})
    CHECK(list(wrong).status == 422);
  CHECK(list("state=dead").status == 400);
}

TEST_CASE("an operation is named by the broker's start and its number", "[admin]") {
  Broker broker;
  auto asked = broker.only<ShowOperation>("GET", "/v1/operations/5-2");
  CHECK(asked.incarnation == 5);
  CHECK(asked.number == 2);
  for (const char* wrong : {"5", "5-", "-2", "5-2x", "5_2", "99999999999999999999-1"})
    CHECK(broker.send("GET", std::string("/v1/operations/") + wrong).status == 404);
}

TEST_CASE("of a queue's settings only what is given changes", "[admin]") {
  Broker broker;
  auto set = broker.only<SetQueue>("PATCH", "/v1/queues/mail",
                                   R"({"weight":3,"order":"fair","backoff":"1s..1m","ttl_ms":5})");
  CHECK(set.queue == "mail");
  CHECK(set.makes);
  records::QueueSettings before;
  before.rate = 7;
  before.lease = Millis(500);
  auto after = changed(before, set.change);
  REQUIRE(after.ok());
  records::QueueSettings expected = before;
  expected.weight = 3;
  expected.order = records::Order::fair;
  expected.backoff_min = Millis(1000);
  expected.backoff_max = Millis(60000);
  expected.ttl = Millis(5);
  CHECK(*after == expected);
  CHECK(broker.only<SetQueue>("POST", "/v1/queues/mail/pause").change.paused == true);
  auto resume = broker.only<SetQueue>("POST", "/v1/queues/mail/resume", "{}");
  CHECK(resume.change.paused == false);
  CHECK_FALSE(resume.makes);
  CHECK(broker.only<PurgeQueue>("POST", "/v1/queues/mail/purge").queue == "mail");
}

TEST_CASE("a least backoff above the largest is refused", "[admin]") {
  records::QueueSettings before;
  before.backoff_max = Millis(100);
  QueueChange change;
  change.backoff_min_ms = 101;
  CHECK_FALSE(changed(before, change).ok());
  change.backoff_min_ms = 100;
  CHECK(changed(before, change).ok());
}

TEST_CASE("a bad setting is named", "[admin]") {
  Broker broker;
  struct Case {
    const char* body;
    int status;
    const char* named;
  };
  for (auto [body, status, named] :
       std::initializer_list<Case>{{R"({"wieght":3})", 400, "wieght"},
                                   {"[]", 400, "object"},
                                   {"{}", 400, "object"},
                                   {"{", 400, "JSON"},
                                   {R"({"weight":0})", 422, "weight"},
                                   {R"({"weight":1001})", 422, "weight"},
                                   {R"({"weight":"3"})", 422, "weight"},
                                   {R"({"rate":-1})", 422, "rate"},
                                   {R"({"rate":1.5})", 422, "rate"},
                                   {R"({"max_attempts":256})", 422, "max_attempts"},
                                   {R"({"order":"lifo"})", 422, "order"},
                                   {R"({"paused":1})", 422, "paused"},
                                   {R"({"backoff":"5m"})", 422, "backoff"},
                                   {R"({"lease_ms":99})", 422, "lease_ms"},
                                   {R"({"ttl_ms":18446744073709551615})", 422, "ttl_ms"}}) {
    CAPTURE(body);
    auto response = broker.send("PATCH", "/v1/queues/mail", body);
    CHECK(response.status == status);
    CHECK(detail(response).find(named) != std::string::npos);
  }
  CHECK(broker.send("PATCH", "/v1/queues/a b", R"({"weight":3})").status == 404);
  CHECK(broker.asked.empty());
}

TEST_CASE("dead jobs are chosen by what is said of them, never by silence", "[admin]") {
  Broker broker;
  auto choice =
      broker
          .only<RetryDead>("POST", "/v1/dead/retry",
                           R"({"id":"3f9a1c07-9","queue":"mail","error":"no","older_ms":5})")
          .choice;
  CHECK(choice.job->job == JobId{9});
  CHECK(choice.queue == "mail");
  CHECK(choice.error == "no");
  CHECK(choice.older == Millis(5));
  CHECK(broker.only<DropDead>("POST", "/v1/dead/drop", R"({"id":9})").choice.job->job == JobId{9});
  CHECK_FALSE(broker.only<DropDead>("POST", "/v1/dead/drop", R"({"all":true})").choice.job);
  broker.asked.clear();
  for (const char* body :
       {"", "{}", "[]", R"({"all":false})", R"({"all":true,"queue":"mail"})", R"({"job":1})"}) {
    CAPTURE(body);
    CHECK(broker.send("POST", "/v1/dead/drop", body).status == 400);
  }
  for (const char* body : {R"({"id":"x"})", R"({"id":-1})", R"({"queue":""})", R"({"error":1})",
                           R"({"older_ms":0})", R"({"all":1})"}) {
    CAPTURE(body);
    CHECK(broker.send("POST", "/v1/dead/drop", body).status == 422);
  }
  CHECK(broker.asked.empty());
}

TEST_CASE("queues come in pages, by a cursor", "[admin]") {
  Broker broker;
  auto ask = [&](std::string query) {
    auto request = broker.request("GET", "/v1/queues");
    request.query = std::move(query);
    return broker.routes.answer(request);
  };
  CHECK(ask("cursor=0").status == 200);
  CHECK(ask("cursor=4096").status == 200);
  REQUIRE(broker.asked.size() == 2);
  CHECK(std::get<ListQueues>(broker.asked[1]).cursor == 4096);
  for (const char* bad :
       {"cursor=", "cursor=-1", "cursor=1x", "cursor=99999999999999999999", "limit=5"})
    CHECK(ask(bad).status == 400);
  CHECK(broker.asked.size() == 2);
}

TEST_CASE("a queue that an earlier version named can be emptied, but not made", "[admin]") {
  Broker broker;
  for (const std::string name : {".", ".."}) {
    CHECK(broker.only<PurgeQueue>("POST", "/v1/queues/" + name + "/purge").queue == name);
    CHECK(broker.only<DeleteQueue>("DELETE", "/v1/queues/" + name).queue == name);
    CHECK(!broker.only<SetQueue>("PATCH", "/v1/queues/" + name, R"({"weight": 2})").makes);
  }
  CHECK(broker.only<SetQueue>("PATCH", "/v1/queues/...", R"({"weight": 2})").makes);
  CHECK(broker.send("POST", "/v1/queues/a b/purge").status == 404);
}

TEST_CASE("the wrong method is 405 and says the right one", "[admin]") {
  Broker broker;
  struct Case {
    const char *method, *path, *allow;
  };
  for (auto [method, path, allow] :
       std::initializer_list<Case>{{"POST", "/v1/jobs/1", "GET, HEAD"},
                                   {"GET", "/v1/jobs/1/cancel", "POST"},
                                   {"POST", "/v1/queues/q", "GET, HEAD, PATCH, DELETE"},
                                   {"PATCH", "/v1/queues/q/pause", "POST"},
                                   {"DELETE", "/v1/dead/drop", "POST"}}) {
    auto response = broker.send(method, path);
    CHECK(response.status == 405);
    REQUIRE(response.headers.size() == 1);
    CHECK(response.headers[0] == std::pair<std::string, std::string>("Allow", allow));
  }
  CHECK(broker.asked.empty());
}

TEST_CASE("pages of other sites change nothing", "[admin]") {
  Broker broker;
  auto from = [&](const char* host, const char* origin) {
    auto request = broker.request("POST", "/v1/queues/q/purge");
    request.headers = {{"Host", host}};
    if (*origin) request.headers.emplace_back("Origin", origin);
    return broker.routes.answer(request).status;
  };
  CHECK(from("127.0.0.1:5580", "http://evil.example") == 403);
  CHECK(from("127.0.0.1:5580", "null") == 403);
  CHECK(from("127.0.0.1:5580", "http://127.0.0.1:8080") == 403);
  CHECK(from("evil.example:5580", "http://evil.example:5580") == 403);  // its name, our address
  CHECK(broker.asked.empty());
  CHECK(from("127.0.0.1:5580", "http://127.0.0.1:5580") == 200);
  CHECK(from("localhost:5580", "http://localhost:5580") == 200);
  CHECK(from("[::1]:5580", "") == 200);
  auto form = broker.request("POST", "/v1/dead/drop", R"({"all":true})");
  form.headers = {{"Host", "127.0.0.1:5580"}, {"Content-Type", "text/plain"}};
  CHECK(broker.routes.answer(form).status == 415);
}

TEST_CASE("operations want the token too", "[admin]") {
  Broker broker("open sesame");
  for (auto [method, path] :
       {std::pair{"GET", "/v1/jobs/1"}, {"POST", "/v1/queues/q/purge"}, {"POST", "/v1/dead/drop"}})
    CHECK(broker.send(method, path).status == 401);
  CHECK(broker.asked.empty());
  auto request = broker.request("POST", "/v1/queues/q/purge");
  request.headers = {{"Host", "broker.example"},
                     {"Authorization", "Bearer open sesame"},
                     {"Origin", "https://broker.example"}};
  CHECK(broker.routes.answer(request).status == 200);
}

TEST_CASE("without an answer one is told whether it may have been done", "[admin]") {
  Broker taken, silent;
  taken.answers = false;
  auto unknown = taken.send("POST", "/v1/queues/q/purge");
  CHECK(unknown.status == 503);
  CHECK(detail(unknown).find("may have been done") != std::string::npos);
  silent.takes = false;
  auto refused = silent.send("POST", "/v1/queues/q/purge");
  CHECK(refused.status == 503);
  CHECK(detail(refused).find("nothing was done") != std::string::npos);
}

}  // namespace millrace::admin
