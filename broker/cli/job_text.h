// A broker's answers about jobs as short, aligned text for people.
// Shape:   listed_jobs_text() of GET /v1/jobs, the others of GET /v1/dead
// Errors:  throws nlohmann::json::exception when a key is missing: not a broker, or a newer one
// Threads: any
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace millrace::admin {

std::string listed_jobs_text(const nlohmann::json& page);
std::string dead_text(const nlohmann::json& page);
std::string dead_groups_text(const nlohmann::json& sums);

// For a column: without line breaks, at most kMaxErrorShown bytes, whole characters.
inline constexpr size_t kMaxErrorShown = 120;  // --json has all of it
std::string short_error(const nlohmann::json& failure);

}  // namespace millrace::admin
