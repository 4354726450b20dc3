#include "worker/handlers/stream_line.h"

#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/utf8.h"

namespace millrace::worker {
namespace {

using Json = nlohmann::ordered_json;
using Kind = Completion::Kind;

const std::string* text_at(const Json& object, const char* key) {
  auto at = object.find(key);
  return at == object.end() ? nullptr : at->get_ptr<const std::string*>();
}

bool has(const Json& object, const char* key) { return object.find(key) != object.end(); }

std::optional<Completion> failure(const Json& answer) {
  const std::string* error = text_at(answer, "error");
  const std::string* kind = text_at(answer, "kind");
  if (!error || (has(answer, "kind") && !kind)) return std::nullopt;
  if (!kind || *kind == "retryable") return Completion::failed(Kind::retryable, *error);
  if (*kind == "permanent") return Completion::failed(Kind::permanent, *error);
  return std::nullopt;
}

}  // namespace

std::string job_line(const JobContext& context) {
  std::string_view payload = context.job.payload;
  Json line{{"id", context.name()},
            {"queue", context.queue},
            {"attempt", context.job.attempt},
            {"epoch", context.job.lease.epoch.value}};
  if (protocol::is_utf8(payload)) {
    line["payload"] = payload;
  } else {
    line["payload_base64"] = base64(payload);
  }
  return line.dump() + "\n";
}

std::optional<Completion> parse_answer(std::string_view line, std::string_view job) {
  Json answer = Json::parse(line, nullptr, false);
  if (!answer.is_object()) return std::nullopt;
  const std::string* id = text_at(answer, "id");
  if (!id || *id != job) return std::nullopt;
  if (has(answer, "error")) return failure(answer);
  if (has(answer, "result_base64")) {
    const std::string* text = text_at(answer, "result_base64");
    std::string bytes;
    if (!text || has(answer, "result") || !parse_base64(*text, &bytes)) return std::nullopt;
    return Completion::done(std::move(bytes));
  }
  if (!has(answer, "result")) return Completion::done({});
  const std::string* result = text_at(answer, "result");
  if (!result) return std::nullopt;
  return Completion::done(*result);
}

}  // namespace millrace::worker
