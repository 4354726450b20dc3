#include <nlohmann/json.hpp>
#include <set>

#include "producer/gateway/answers.h"
#include "producer/gateway/gateway_metrics.h"
#include "producer/gateway/job_names.h"
#include "producer/gateway/job_request.h"
#include "producer/gateway/openapi.h"
#include "producer/gateway/routes.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using nlohmann::json;

namespace {

const JobNames kNames;  // no token

http::Request request(std::string method, std::string path, std::string query = "",
                      http::Headers headers = {}) {
  return {std::move(method), path + "?" + query, path, std::move(query), std::move(headers), ""};
}

std::string route_of(const std::string& method, const std::string& path) {
  auto found = find_route(request(method, path));
  if (auto* response = std::get_if<http::Response>(&found)) {
    std::string text = std::to_string(response->status);
    for (const auto& [name, value] : response->headers) text += " " + name + ": " + value;
    return text;
  }
  const Route& route = std::get<Route>(found);
  constexpr const char* kKinds[] = {"submit",  "batch",  "job",    "metrics",
                                    "healthz", "readyz", "openapi"};
  return kKinds[size_t(route.kind)] + (route.subject.empty() ? "" : " " + route.subject);
}

JobRequest good(const std::string& query, http::Headers headers = {}) {
  auto job = read_job_request(request("POST", "/", query, std::move(headers)), Millis(60'000));
  REQUIRE(job.ok());
  return *std::move(job);
}

std::string fault(const std::string& query, http::Headers headers = {}) {
  auto job = read_job_request(request("POST", "/", query, std::move(headers)), Millis(60'000));
  REQUIRE_FALSE(job.ok());
  return job.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string header_of(const http::Response& response, const std::string& name) {
  for (const auto& [key, value] : response.headers)
    if (key == name) return value;
  return "";
}

Answer answer_of(Answer::Kind kind) {
  Answer answer;
  answer.kind = kind;
  answer.broker = {0x3f9a1c07};
  answer.job = {42};
  return answer;
}

Answer rejection(const char* reason, Millis retry_after) {
  Answer answer = answer_of(Answer::Kind::rejected);
  answer.reason = reason;
  answer.message = "because";
  answer.retry_after = retry_after;
  return answer;
}

}  // namespace

TEST_CASE("paths lead to their routes", "[gateway]") {
  CHECK(route_of("POST", "/v1/queues/images/jobs") == "submit images");
  CHECK(route_of("POST", "/v1/queues/a.b_c:d-1/jobs:batch") == "batch a.b_c:d-1");
  CHECK(route_of("POST", "/v1/queues/a%2Db/jobs%3abatch") == "batch a-b");
  CHECK(route_of("GET", "/v1/jobs/3f9a1c07-42") == "job 3f9a1c07-42");
  CHECK(route_of("GET", "/metrics") == "metrics");
  CHECK(route_of("GET", "/healthz") == "healthz");
  CHECK(route_of("GET", "/readyz") == "readyz");
  CHECK(route_of("GET", "/openapi.json") == "openapi");
}

TEST_CASE("what is not there is 404, what is not done there 405", "[gateway]") {
  for (const char* path : {"", "/", "/v1", "/v1/queues", "/v1/queues/q", "/v1/queues//jobs",
                           "/v1/queues/q/jobs/", "/v1/queues/q/jobs/x", "/v1/queues/%zz/jobs",
                           "//v1/queues/q/jobs", "/v1/jobs/", "/metrics/", "/v1/queues/a%2fb"}) {
    CAPTURE(path);
    CHECK(route_of("POST", path) == "404");
  }
  CHECK(route_of("GET", "/v1/queues/q/jobs") == "405 Allow: POST");
  CHECK(route_of("DELETE", "/v1/queues/q/jobs:batch") == "405 Allow: POST");
  CHECK(route_of("POST", "/v1/jobs/1-1") == "405 Allow: GET, HEAD");
  CHECK(route_of("PUT", "/metrics") == "405 Allow: GET, HEAD");
}

TEST_CASE("the OpenAPI document has exactly the routes", "[gateway]") {
  auto document = json::parse(kOpenApi);
  CHECK(document["openapi"] == "3.1.0");
  std::set<std::string> written, served;
  for (auto& [path, methods] : document["paths"].items()) {
    for (auto& [method, operation] : methods.items()) {
      if (method == "parameters") continue;
      written.insert(method + " " + path);
      CHECK(operation["responses"].size() > 0);
    }
  }
  for (const RouteSpec& spec : gateway_routes()) {
    std::string method(spec.method);
    for (char& c : method) c = char(std::tolower(c));
    served.insert(method + " " + std::string(spec.path));
    const json& operation = document["paths"][std::string(spec.path)][method];
    CHECK((operation.contains("security") && operation["security"] == json::parse("[{}]")) ==
          spec.open);
  }
  CHECK(written == served);
  // Every parameter that the code takes, and no other.
  std::set<std::string> parameters;
  for (const json& p : document["paths"]["/v1/queues/{queue}/jobs"]["post"]["parameters"])
    if (p["in"] == "query") parameters.insert(p["name"]);
  CHECK(parameters == std::set<std::string>{"priority", "delay", "ttl", "max_attempts", "wait"});
}

TEST_CASE("options of a job stand in the query", "[gateway]") {
  JobRequest plain = good("");
  CHECK(plain.options == protocol::SubmitOptions{});
  CHECK(plain.wait == Millis(0));
  JobRequest full = good("priority=7&delay=2m&ttl=500ms&max_attempts=3&wait=5s");
  CHECK(full.options.priority == 7);
  CHECK(full.options.delay == Millis(120'000));
  CHECK(full.options.ttl == Millis(500));
  CHECK(full.options.max_attempts == 3);
  CHECK(full.options.report == protocol::Report::result);
  CHECK(full.wait == Millis(5000));
  CHECK(good("wait=0s").options.report == protocol::Report::none);
  CHECK(good("wait=%35s").wait == Millis(5000));
  CHECK(good("", {{"accept", "application/octet-stream"}}).raw);
}

TEST_CASE("what the query says wrongly is named", "[gateway]") {
  CHECK(contains(fault("dealy=5s"), "dealy"));
  CHECK(contains(fault("dealy=5s"), "delay"));
  CHECK(contains(fault("priority=10"), "priority"));
  CHECK(contains(fault("priority="), "priority"));
  CHECK(contains(fault("priority"), "priority"));
  CHECK(contains(fault("priority=1&priority=1"), "twice"));
  CHECK(contains(fault("delay=5"), "delay"));
  CHECK(contains(fault("delay=9999999h"), "100 years"));
  CHECK(contains(fault("ttl=0s"), "ttl"));
  CHECK(contains(fault("max_attempts=0"), "max_attempts"));
  CHECK(contains(fault("max_attempts=256"), "max_attempts"));
  CHECK(contains(fault("wait=61s"), "--max-wait"));
  CHECK(contains(fault("wait=%zz"), "%"));
  CHECK(contains(fault("delay=" + std::string(65, '1')), "too long"));
  auto batch = read_batch_request(request("POST", "/", "wait=5s"));
  REQUIRE_FALSE(batch.ok());
  CHECK(contains(batch.error().message, "batch"));
}

TEST_CASE("an idempotency key is taken with or without quotes", "[gateway]") {
  CHECK(good("", {{"Idempotency-Key", "order-17"}}).options.key == "order-17");
  CHECK(good("", {{"idempotency-key", "\"order-17\""}}).options.key == "order-17");
  CHECK(good("", {{"Idempotency-Key", std::string(64, 'k')}}).options.key.size() == 64);
  CHECK(contains(fault("", {{"Idempotency-Key", std::string(65, 'k')}}), "64"));
  CHECK(contains(fault("", {{"Idempotency-Key", ""}}), "Idempotency-Key"));
  CHECK(contains(fault("", {{"Idempotency-Key", "\"\""}}), "Idempotency-Key"));
  CHECK(contains(fault("", {{"Idempotency-Key", "a b"}}), "Idempotency-Key"));
  CHECK(contains(fault("", {{"Idempotency-Key", "k\xc3\xa9y"}}), "Idempotency-Key"));
  CHECK(contains(fault("", {{"Idempotency-Key", "a"}, {"idempotency-key", "a"}}), "twice"));
  auto with_key = [](size_t size) {
    return read_batch_request(
        request("POST", "/", "", {{"Idempotency-Key", std::string(size, 'k')}}));
  };
  CHECK(with_key(58).ok());
  CHECK_FALSE(with_key(59).ok());
}

TEST_CASE("every line of Content-Encoding says how a payload is coded", "[gateway]") {
  auto coding = [](std::vector<std::string> values) {
    http::Request request;
    for (std::string& value : values)
      request.headers.emplace_back("content-Encoding", std::move(value));
    return std::string(content_coding(request));
  };
  CHECK(coding({}).empty());
  CHECK(coding({"identity", " Identity , identity", ""}).empty());
  CHECK(coding({"gzip"}) == "gzip");
  CHECK(coding({"identity", "gzip"}) == "gzip");
  CHECK(coding({"identity, br"}) == "br");
  CHECK(coding({std::string(100, 'x')}).size() == 64);
}

TEST_CASE("a batch is split into lines, and each is checked by itself", "[gateway]") {
  auto lines = split_batch("{\"a\":1}\r\n[1, 2]\nnot JSON\n\n\"last\"");
  REQUIRE(lines.ok());
  REQUIRE(lines->size() == 5);
  CHECK((*lines)[0].payload == "{\"a\":1}");
  CHECK((*lines)[1].payload == "[1, 2]");
  CHECK((*lines)[2].fault == "the line is not a JSON value");
  CHECK((*lines)[3].fault == "the line is empty");
  CHECK((*lines)[4].payload == "\"last\"");
  for (size_t good_line : {0, 1, 4}) CHECK((*lines)[good_line].fault.empty());
  CHECK(split_batch("1\n")->size() == 1);
  CHECK(split_batch("\"\xff\"")->front().fault == "the line is not a JSON value");
  CHECK_FALSE(split_batch("").ok());
  std::string many;
  for (size_t i = 0; i < kMaxBatchLines; ++i) many += "1\n";
  CHECK(split_batch(many).ok());
  CHECK_FALSE(split_batch(many + "1").ok());
}

TEST_CASE("an accepted job is 202 with its place", "[gateway]") {
  Answer answer = answer_of(Answer::Kind::confirmed);
  auto response = answer_response(answer, kNames);
  CHECK(response.status == 202);
  CHECK(header_of(response, "Location") == "/v1/jobs/3f9a1c07-42");
  CHECK(response.body == "{\"id\":\"3f9a1c07-42\",\"state\":\"confirmed\",\"known\":false}\n");
  answer.kind = Answer::Kind::buffered;
  answer.known = true;
  auto body = json::parse(answer_response(answer, kNames).body);
  CHECK(body["state"] == "buffered");
  CHECK(body["known"] == true);
  CHECK(json::parse(answer_line(3, answer, kNames))["line"] == 3);
  CHECK(json::parse(answer_line(3, answer, kNames))["status"] == 202);
}

TEST_CASE("each refusal says whether to come again, and whether the job may be there",
          "[gateway]") {
  struct Case {
    Answer answer;
    int status;
    const char* type;
    const char* retry_after;
  };
  const std::string urn = "urn:millrace:problem:";
  for (const Case& c : {
           Case{rejection("too_large", Millis(0)), 413, "about:blank", ""},
           Case{rejection("bad_queue", Millis(0)), 400, "about:blank", ""},
           Case{rejection("queue_full", Millis(1)), 429, "urn:millrace:problem:back-pressure", "1"},
           Case{rejection("disk_full", Millis(2001)), 429, "urn:millrace:problem:back-pressure",
                "3"},
           Case{rejection("draining", Millis(1000)), 503, "urn:millrace:problem:draining", "1"},
           Case{answer_of(Answer::Kind::away), 503, "urn:millrace:problem:broker-away", "1"},
           Case{answer_of(Answer::Kind::unknown), 503, "urn:millrace:problem:unknown", "1"},
       }) {
    auto response = answer_response(c.answer, kNames);
    CAPTURE(c.type);
    CHECK(response.status == c.status);
    CHECK(response.content_type == "application/problem+json");
    CHECK(header_of(response, "Retry-After") == c.retry_after);
    auto body = json::parse(response.body);
    CHECK(body["type"] == c.type);
    CHECK(body["status"] == c.status);
    auto line = json::parse(answer_line(7, c.answer, kNames));
    CHECK(line["line"] == 7);
    CHECK(line["status"] == c.status);
    CHECK(line["type"] == c.type);
  }
  CHECK(
      contains(answer_response(answer_of(Answer::Kind::unknown), kNames).body, "Idempotency-Key"));
}

TEST_CASE("the end of a job is told as JSON, or as its bytes", "[gateway]") {
  JobView view{{0x3f9a1c07}, {42}, protocol::JobState::done, 2, true, "r\xc3\xa9sult", ""};
  CHECK(
      json::parse(end_response(view, kNames, false).body) ==
      json{{"id", "3f9a1c07-42"}, {"state", "done"}, {"attempts", 2}, {"result", "r\xc3\xa9sult"}});
  CHECK(end_response(view, kNames, true).body == "r\xc3\xa9sult");
  CHECK(end_response(view, kNames, true).content_type == "application/octet-stream");
  view.result = "\xff";
  CHECK(json::parse(end_response(view, kNames, false).body)["result_base64"] == "/w==");
  view = {{0x3f9a1c07}, {42}, protocol::JobState::dead, 0, false, "", "out of luck"};
  auto dead = json::parse(end_response(view, kNames, false).body);
  CHECK(dead["state"] == "dead");
  CHECK(dead["error"] == "out of luck");
  CHECK(dead["attempts"].is_null());
  CHECK(end_response(view, kNames, true).status == 502);
  CHECK(json::parse(end_response(view, kNames, true).body)["error"] == "out of luck");
  view.state = protocol::JobState::leased;
  CHECK(view_response(view, kNames, false).status == 200);
  CHECK(view_response(view, kNames, true).status == 409);
  view.state = protocol::JobState::unknown;
  CHECK(view_response(view, kNames, false).status == 404);
  CHECK(json::parse(end_response(view, kNames, false).body)["state"] == "lost");
}

TEST_CASE("metrics count answers, and confirms by their time", "[gateway]") {
  GatewayMetrics metrics;
  metrics.responded(202);
  metrics.responded(202);
  metrics.responded(429);
  metrics.answered(answer_of(Answer::Kind::confirmed), Millis(3));
  metrics.answered(answer_of(Answer::Kind::unknown), Millis(9000));
  std::string text = metrics.text({1, false, 5, 2, 1, SpoolLevel{7, 900, 3}});
  for (const char* line :
       {"millrace_gateway_broker_connected 1\n", "millrace_gateway_spool_jobs 7\n",
        "millrace_gateway_draining 0\n", "millrace_gateway_connections 5\n",
        "millrace_gateway_responses_total{code=\"202\"} 2\n",
        "millrace_gateway_responses_total{code=\"429\"} 1\n",
        "millrace_gateway_submissions_total{answer=\"confirmed\"} 1\n",
        "millrace_gateway_submissions_total{answer=\"unknown\"} 1\n",
        "millrace_gateway_confirm_seconds_bucket{le=\"0.002\"} 0\n",
        "millrace_gateway_confirm_seconds_bucket{le=\"0.005\"} 1\n",
        "millrace_gateway_confirm_seconds_bucket{le=\"+Inf\"} 1\n",
        "millrace_gateway_confirm_seconds_sum 0.003\n",
        "millrace_gateway_confirm_seconds_count 1\n"}) {
    CAPTURE(line);
    CHECK(contains(text, line));
  }
}

TEST_CASE("with a token an idempotency key is another one at the broker", "[gateway]") {
  const JobNames mine("my-token"), same("my-token"), other("my-tokeN");
  const std::string key = mine.scoped_key("order-1");
  CHECK(key == same.scoped_key("order-1"));
  CHECK(key != other.scoped_key("order-1"));
  CHECK(key != mine.scoped_key("order-2"));
  CHECK(key.size() == 32);
  CHECK(key.size() <= protocol::kMaxKey);
  CHECK(mine.scoped_key("").empty());
  CHECK(kNames.scoped_key("order-1") == "order-1");
  const std::string id = mine.text({0x3f9a1c07}, {42});
  CHECK_FALSE(mine.scoped_key("3f9a1c07-42").starts_with(id.substr(12)));
}

TEST_CASE("with a token an id has a tag that only this token makes", "[gateway]") {
  const BrokerId broker{0x3f9a1c07};
  const JobNames mine("my-token"), same("my-token"), other("my-tokeN");
  const std::string id = mine.text(broker, {42});
  CHECK(contains(id, "3f9a1c07-42-"));
  CHECK(id == same.text(broker, {42}));
  CHECK(id != other.text(broker, {42}));
  CHECK(id.substr(12) != mine.text(broker, {43}).substr(12));
  CHECK(id.substr(12) != mine.text({0x3f9a1c08}, {42}).substr(12));

  BrokerId of;
  JobId job;
  CHECK(same.parse(id, &of, &job));
  CHECK(of == broker);
  CHECK(job == JobId{42});
  CHECK_FALSE(other.parse(id, &of, &job));
  CHECK_FALSE(mine.parse("3f9a1c07-42", &of, &job));
  CHECK_FALSE(mine.parse("3f9a1c07-43" + id.substr(11), &of, &job));
  CHECK_FALSE(mine.parse(id + "0", &of, &job));
  CHECK_FALSE(mine.parse(id.substr(0, id.size() - 1), &of, &job));
  CHECK_FALSE(mine.parse("", &of, &job));

  CHECK(kNames.text(broker, {42}) == "3f9a1c07-42");
  job = {};
  CHECK(parse_job_text(id, &of, &job));  // the commands take it as it is
  CHECK(job == JobId{42});
}
