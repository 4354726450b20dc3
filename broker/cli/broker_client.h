// How a command asks a running broker over HTTP, and what it makes of a refusal.
// Shape:   text: the broker's JSON as it came; json: the same, parsed
// Errors:  unavailable (69), temporary (75: busy), bad_data (65: it refuses, or is no broker),
//          config (78: its token is missing or wrong)
// Threads: any
#pragma once

#include <nlohmann/json.hpp>

#include "broker/admin/admin_server.h"
#include "common/http/client.h"

namespace millrace::admin {

inline constexpr Millis kBrokerTimeout{5000};  // the broker itself gives up after kHealthTime

struct BrokerReply {
  int status = 200;  // or 202: it goes on
  std::string text;
  nlohmann::json json;
};

Result<BrokerReply> ask_broker(const AdminOptions& broker, const std::string& method,
                               const std::string& target, std::string body = "",
                               Millis timeout = kBrokerTimeout);

// What is no JSON, as it came.
Result<http::Reply> fetch_bytes(const AdminOptions& broker, const std::string& target);

Error not_a_broker(const AdminOptions& broker, const std::string& target);

}  // namespace millrace::admin
