// What the `journal` commands print, for people and (with --json) for scripts.
// Shape:   keys of docs/OPERATIONS.md; only ever added to
// Threads: immutable
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "broker/offline/survey.h"

namespace millrace::offline {

nlohmann::ordered_json verify_json(const std::string& directory, const Survey& survey);
std::string verify_text(const std::string& directory, const Survey& survey);

nlohmann::ordered_json stat_json(const std::string& directory, const Survey& survey);
std::string stat_text(const std::string& directory, const Survey& survey);

nlohmann::ordered_json repair_json(const std::string& from, const std::string& to,
                                   const Survey& survey);
std::string repair_text(const std::string& from, const std::string& to, const Survey& survey);

}  // namespace millrace::offline
