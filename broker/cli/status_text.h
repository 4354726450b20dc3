// A broker's answers as short, aligned text for people.
// Shape:   status_text() of /v1/status, and so on
// Errors:  throws nlohmann::json::exception when a key is missing: not a broker, or a newer one
// Threads: any
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace millrace::admin {

std::string status_text(const nlohmann::json& status);

// Parts of status_text(): of `jobs` one line or two, of `queues` a table, of a worker its name. One
// that has not come back since the broker's start is known by its id alone.
std::string jobs_text(const nlohmann::json& jobs);
std::string queue_table(const nlohmann::json& queues);
std::string worker_name(const nlohmann::json& worker);

// GET /v1/queues
std::string queues_text(const nlohmann::json& answer);
// "paused weight=3": what differs from the defaults; "-" when nothing does.
std::string settings_words(const nlohmann::json& settings);
// GET /v1/jobs/{id}: all of it, or where it is and what it waits for.
std::string job_text(const nlohmann::json& job);
std::string why_text(const nlohmann::json& job);

}  // namespace millrace::admin
