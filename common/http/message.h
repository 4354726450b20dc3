// What an HTTP handler is given and what it gives back, without a word of the library below.
// Limits:  those of common/http/server.h, met before a Request exists
// Threads: immutable
// Source:  RFC 9110, and RFC 9457 for problem()
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::http {

// Without regard to the case of ASCII letters.
bool same_word(std::string_view a, std::string_view b);

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method;  // HEAD arrives as GET: the server leaves the body out
  std::string target;  // path?query, as sent
  std::string path;
  std::string query;
  Headers headers;
  std::string body;

  // The first of that name, in any case of letters; empty when there is none.
  std::string_view header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string content_type;
  std::string body;
  Headers headers;     // beyond those of the message itself
  bool close = false;  // the connection ends with it
};

Response ok(std::string content_type, std::string body);

// The status line's words.
std::string_view reason_of(int status);

// An error as application/problem+json; the detail is for people, the type for programs where the
// status does not say enough.
Response problem(int status, std::string_view detail, std::string_view type = "about:blank");

// Status 405; `allow` lists the methods: "GET, HEAD".
Response method_not_allowed(std::string_view allow);

}  // namespace millrace::http
