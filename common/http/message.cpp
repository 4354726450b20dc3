#include "common/http/message.h"

#include <fmt/format.h>
#include <strings.h>

#include <nlohmann/json.hpp>

#include "common/base/terminal_text.h"

namespace millrace::http {

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 431:
      return "Request Header Fields Too Large";
    case 429:
      return "Too Many Requests";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return status < 300 ? "OK" : status < 500 ? "Request Refused" : "Internal Server Error";
  }
}

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view Request::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (same_word(key, name)) return value;
  }
  return {};
}

Response ok(std::string content_type, std::string body) {
  return {200, std::move(content_type), std::move(body), {}, false};
}

Response problem(int status, std::string_view detail, std::string_view type) {
  nlohmann::ordered_json body{
      {"type", type}, {"title", reason_of(status)}, {"status", status}, {"detail", detail}};
  constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;
  return {status,
          "application/problem+json",
          terminal_json(body.dump(-1, ' ', false, replace)) + "\n",
          {},
          false};
}

Response method_not_allowed(std::string_view allow) {
  Response response = problem(405, fmt::format("this resource takes {} only", allow));
  response.headers.emplace_back("Allow", allow);
  return response;
}

}  // namespace millrace::http
