// Who may ask: a bearer token, and no page of another site.
// Shape:   without a token anyone on this machine may ask; a web page of another site may not: its
//          Origin gives it away, and a name that was bound to this machine's address is no name of
//          it
// Errors:  read_token(): config (78), a file that others may read, or that holds no token
// Threads: immutable
#pragma once

#include <optional>
#include <string>

#include "common/http/message.h"
#include "common/result.h"

namespace millrace::http {

class Access {
 public:
  // Without a token: empty.
  explicit Access(std::string token) : token_(std::move(token)) {}

  // "Authorization: Bearer TOKEN"; the time that it takes tells nothing of the token.
  bool admits(const Request& request) const;
  // A request that changes something, made by a page of another site.
  bool from_elsewhere(const Request& request) const;

 private:
  std::string token_;
};

// Status 401; the detail says where the token comes from.
Response unauthorized(std::string_view detail);
// Status 403, for what is from elsewhere.
Response forbidden();

// The first line of a file that only its owner can read.
Result<std::string> read_token(const std::string& path, const std::string& flag);

}  // namespace millrace::http
