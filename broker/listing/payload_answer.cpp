#include "broker/listing/payload_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/utf8.h"

namespace millrace::listing {
namespace {

// Beyond it, JSON is called text: to parse it takes longer than the guess is worth.
constexpr size_t kMaxParsed = 1 << 20;

bool is_control(char c) {
  return (uint8_t(c) < ' ' && c != '\n' && c != '\r' && c != '\t') || c == '\x7f';
}

// An object or an array: a number alone is text.
bool is_json(std::string_view payload) {
  const size_t first = payload.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || (payload[first] != '{' && payload[first] != '['))
    return false;
  return payload.size() <= kMaxParsed && nlohmann::json::accept(payload);
}

}  // namespace

std::string_view kind_of_payload(std::string_view payload) {
  if (!protocol::is_utf8(payload) || std::any_of(payload.begin(), payload.end(), is_control))
    return "binary";
  return is_json(payload) ? "json" : "text";
}

admin::Answer payload_answer(const std::string& job, std::string_view payload) {
  const std::string_view kind = kind_of_payload(payload);
  admin::Answer answer = http::ok(kind == "json"   ? "application/json"
                                  : kind == "text" ? "text/plain; charset=utf-8"
                                                   : "application/octet-stream",
                                  std::string(payload));
  answer.headers.emplace_back("Content-Security-Policy", "default-src 'none'; sandbox");
  if (kind == "binary")
    answer.headers.emplace_back("Content-Disposition",
                                fmt::format("attachment; filename=\"{}.bin\"", job));
  return answer;
}

admin::Answer payload_too_large(const std::string& job, size_t bytes) {
  return http::problem(422, fmt::format("the payload of job {} has {} bytes; at most {} MiB are "
                                        "shown",
                                        job, bytes, kMaxPayloadShown >> 20));
}

}  // namespace millrace::listing
