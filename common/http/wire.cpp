#include "common/http/wire.h"

#include <fmt/format.h>

namespace millrace::http {

std::string WireFormat::encode(const Response& response, Form form) {
  std::string wire;
  wire.reserve(256 + response.body.size());
  auto out = std::back_inserter(wire);
  fmt::format_to(out,
                 "{}{} {}\r\n"
                 "Date: {}\r\n"
                 "Content-Type: {}\r\n"
                 "Cache-Control: no-store\r\n"
                 "X-Content-Type-Options: nosniff\r\n"
                 "Content-Length: {}\r\n",
                 kStart, response.status, reason_of(response.status), date(), response.content_type,
                 response.body.size());
  if (!form.keep_alive) wire += "Connection: close\r\n";
  if (form.keep_alive && form.say_so) wire += "Connection: keep-alive\r\n";
  for (const auto& [name, value] : response.headers) fmt::format_to(out, "{}: {}\r\n", name, value);
  wire += "\r\n";
  if (!form.head_only) wire += response.body;
  return wire;
}

// It changes once a second, and costs more than all the rest.
const std::string& WireFormat::date() {
  std::time_t now = std::time(nullptr);
  if (now == date_at_) return date_;
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  date_.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc));
  date_at_ = now;
  return date_;
}

}  // namespace millrace::http
