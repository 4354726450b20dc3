#include "producer/gateway/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/terminal_text.h"
#include "common/base/utf8.h"

namespace millrace::producer {
namespace {

using http::Response;
using protocol::JobState;
using Json = nlohmann::ordered_json;

constexpr const char* kJson = "application/json";
constexpr const char* kBackPressure = "urn:millrace:problem:back-pressure";
constexpr const char* kAway = "urn:millrace:problem:broker-away";
constexpr const char* kSpoolFull = "urn:millrace:problem:spool-full";
constexpr const char* kDraining = "urn:millrace:problem:draining";
constexpr const char* kUnknown = "urn:millrace:problem:unknown";
constexpr const char* kNotDone = "urn:millrace:problem:not-done";

std::string text_of(const Json& json) {
  return terminal_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Response with_retry(Response response, Millis after) {
  auto seconds = std::chrono::ceil<std::chrono::seconds>(after);
  response.headers.emplace_back("Retry-After",
                                fmt::format("{}", std::max<int64_t>(seconds.count(), 1)));
  return response;
}

std::string_view state_text(JobState state) {
  return state == JobState::unknown ? "lost" : protocol::name_of(state);
}

Json view_json(const JobView& view, const JobNames& names) {
  Json json{{"id", names.text(view.broker, view.job)}, {"state", state_text(view.state)}};
  if (protocol::is_end(view.state))
    json["attempts"] = view.attempts > 0 ? Json(view.attempts) : Json(nullptr);
  if (view.has_result && protocol::is_utf8(view.result)) {
    json["result"] = view.result;
  } else if (view.has_result) {
    json["result_base64"] = base64(view.result);
  }
  if (view.state == JobState::dead) json["error"] = view.error;
  return json;
}

Response rejected(const Answer& answer) {
  if (answer.reason == "too_large") return http::problem(413, answer.message);
  if (answer.reason == "draining") return unavailable(kDraining, answer.message);
  const std::string detail = fmt::format("{}: {}", answer.reason, answer.message);
  if (answer.retry_after > Millis(0)) return back_pressure(detail, answer.retry_after);
  return http::problem(400, detail);
}

Response unknown() {
  return unavailable(
      kUnknown,
      "there was no answer in time: the job may be stored, or be stored later; repeat the "
      "request with the same Idempotency-Key, then there is one job (without a key there may be "
      "two)");
}

std::string accepted_json(const Answer& answer, const JobNames& names) {
  if (!answer.has_job()) return R"("state":"spooled")";
  return fmt::format(R"("id":"{}","state":"{}","known":{})", names.text(answer.broker, answer.job),
                     answer.kind == Answer::Kind::confirmed ? "confirmed" : "buffered",
                     answer.known);
}

}  // namespace

Response back_pressure(std::string_view detail, Millis retry_after) {
  return with_retry(http::problem(429, detail, kBackPressure), retry_after);
}

Response unavailable(std::string_view type, std::string_view detail) {
  return with_retry(http::problem(503, detail, type), Millis(1000));
}

Response away(SpoolRoom room) {
  if (room == SpoolRoom::some)
    return unavailable(kAway,
                       "no broker is connected, or not all have answered since the start: nothing "
                       "was stored; try again later");
  return unavailable(
      kSpoolFull, fmt::format("no broker is connected, and {}: nothing was stored; try again "
                              "later",
                              room == SpoolRoom::disk_full ? "the spool's disk is full"
                                                           : "the spool is full (--spool-size)"));
}

Response no_answer() {
  return unavailable("about:blank", "the broker did not answer in time; ask again");
}

Response draining() {
  Response response = unavailable(kDraining, "this gateway is stopping: nothing was stored");
  response.close = true;
  return response;
}

Response answer_response(const Answer& answer, const JobNames& names) {
  switch (answer.kind) {
    case Answer::Kind::rejected:
      return rejected(answer);
    case Answer::Kind::away:
      return away(answer.spool_room);
    case Answer::Kind::unknown:
      return unknown();
    default:
      break;
  }
  Response response{202, kJson, "{" + accepted_json(answer, names) + "}\n", {}, false};
  if (!answer.has_job()) return response;
  response.headers.emplace_back("Location", "/v1/jobs/" + names.text(answer.broker, answer.job));
  return response;
}

Response end_response(const JobView& view, const JobNames& names, bool raw) {
  Json json = view_json(view, names);
  if (!raw) return http::ok(kJson, text_of(json) + "\n");
  if (view.state == JobState::done) return http::ok("application/octet-stream", view.result);
  // Whoever wants bytes would take anything else for them.
  const int status = protocol::is_end(view.state) ? 502 : 409;
  Json problem{{"type", kNotDone},
               {"title", http::reason_of(status)},
               {"status", status},
               {"detail", fmt::format("the job is {}", state_text(view.state))}};
  problem.update(json);
  return {status, "application/problem+json", text_of(problem) + "\n", {}, false};
}

Response view_response(const JobView& view, const JobNames& names, bool raw) {
  if (view.state == JobState::unknown)
    return http::problem(404, fmt::format("the broker knows no job {}; ended ones are forgotten "
                                          "some time after their end",
                                          names.text(view.broker, view.job)));
  return end_response(view, names, raw);
}

std::string answer_line(size_t line, const Answer& answer, const JobNames& names) {
  if (answer.accepted())
    return fmt::format(R"({{"line":{},"status":202,{}}})", line, accepted_json(answer, names));
  const Response response = answer_response(answer, names);
  Json json{{"line", line}};
  json.update(Json::parse(response.body));
  if (answer.retry_after > Millis(0)) json["retry_after_ms"] = answer.retry_after.count();
  return text_of(json);
}

std::string fault_line(size_t line, std::string_view fault) {
  return text_of({{"line", line},
                  {"type", "about:blank"},
                  {"title", http::reason_of(400)},
                  {"status", 400},
                  {"detail", fault}});
}

}  // namespace millrace::producer
