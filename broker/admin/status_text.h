// A broker's answers as short, aligned text for people.
// Shape:   status_text() of /v1/status, dead_text() of /v1/dead
// Errors:  throws nlohmann::json::exception when a key is missing: not a broker, or a newer one
// Threads: any
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace millrace::admin {

std::string status_text(const nlohmann::json& status);
std::string dead_text(const nlohmann::json& dead);

}  // namespace millrace::admin
