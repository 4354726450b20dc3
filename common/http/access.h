// Who may ask: whoever shows a bearer token, and no page of another site.
// Shape:   without tokens anyone on this machine may ask; a web page of another site may not: its
//          Origin gives it away, and a name that was bound to this machine's address is no name of
//          it
// Limits:  kMaxTokenFile
// Errors:  read_token(), read_tokens(): config (78), a file that others may read, or that holds no
//          token
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/http/message.h"

namespace millrace::http {

inline constexpr size_t kMaxTokenFile = 64 << 10;  // bytes

class Access {
 public:
  // Without a token: empty.
  explicit Access(std::string token) {
    if (!token.empty()) tokens_.push_back(std::move(token));
  }
  explicit Access(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  // Which token the request shows as "Authorization: Bearer TOKEN", by its place; 0 if none is
  // needed; nothing if it shows none of them. The time that it takes tells nothing of the tokens.
  std::optional<size_t> token_of(const Request& request) const;
  bool admits(const Request& request) const { return token_of(request).has_value(); }
  // A request that changes something, made by a page of another site.
  bool from_elsewhere(const Request& request) const;

 private:
  std::vector<std::string> tokens_;
};

// Status 401; the detail says where the token comes from.
Response unauthorized(std::string_view detail);
// Status 403, for what is from elsewhere.
Response forbidden();

// The first line of a file that only its owner can read.
Result<std::string> read_token(const std::string& path, const std::string& flag);
// Each line of it; empty ones are passed over.
Result<std::vector<std::string>> read_tokens(const std::string& path, const std::string& flag);

}  // namespace millrace::http
