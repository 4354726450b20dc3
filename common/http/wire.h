// An HTTP/1.1 response as the bytes that go out.
// Threads: one object, one thread
// Source:  RFC 9110, RFC 9112
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "common/http/message.h"

namespace millrace::http {

class WireFormat {
 public:
  static constexpr std::string_view kStart = "HTTP/1.1 ";  // of every response

  struct Form {
    bool head_only = false;  // an answer to HEAD: the header of GET, without the body
    bool keep_alive = true;  // the connection goes on
    bool say_so = false;     // to a client of HTTP/1.0, which expects it to close
  };
  std::string encode(const Response& response, Form form);

 private:
  const std::string& date();

  std::time_t date_at_ = 0;
  std::string date_;
};

}  // namespace millrace::http
