// One HTTP request, for the commands that ask a running broker: plain, blocking, no connection
// kept.
// Units:   the time-out covers connecting, sending and reading together
// Limits:  64 MiB of body
// Errors:  unavailable (69): nobody is there; temporary (75): no answer in time; bad_data (65):
//          what answers is not HTTP. A status of any kind is a reply, not an error.
// Threads: any
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/base/units.h"

namespace millrace::http {

struct Reply {
  int status = 0;
  std::string content_type;
  std::string body;
};

// A body, unless empty, goes along as application/json; the token, unless empty, as
// "Authorization: Bearer". Errors call what should answer a broker, or as `program` says.
Result<Reply> request(const std::string& method, const Endpoint& server, const std::string& target,
                      std::string body, Millis timeout, const std::string& token = "",
                      std::string_view program = "broker");

Result<Reply> get(const Endpoint& server, const std::string& target, Millis timeout,
                  const std::string& token = "", std::string_view program = "broker");

}  // namespace millrace::http
