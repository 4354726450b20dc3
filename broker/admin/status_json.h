// A Status as JSON, for `status --json`, the dashboard and scripts: keys are only ever added.
// Shape:   status_json() has everything but the dead jobs, which have a list of their own
// Errors:  bytes that are not UTF-8, as a handler's error may hold, become U+FFFD in json_text()
// Threads: any
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "broker/admin/status.h"

namespace millrace::admin {

nlohmann::ordered_json status_json(const Status& status);
nlohmann::ordered_json queues_json(const Status& status);   // {"queues": […]}
nlohmann::ordered_json workers_json(const Status& status);  // {"workers": […]}
nlohmann::ordered_json queue_json(const QueueStatus& queue);
// Of one queue: what PATCH /v1/queues/{name} takes, all of it.
nlohmann::ordered_json settings_json(const records::QueueSettings& settings);

// One line, with its end.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace millrace::admin
