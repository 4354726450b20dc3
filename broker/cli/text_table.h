// What the texts for people are made of: values of a broker's JSON as words, and tables of them.
// Errors:  what looks a key up throws nlohmann::json::exception when it is missing
// Threads: any
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/grouped.h"

namespace millrace::admin {

using Row = std::vector<std::string>;

// Names and errors come from outside, and must not steer the terminal.
std::string text(const nlohmann::json& object, const char* key);

// grouped()
std::string count(const nlohmann::json& object, const char* key);

// 54525952 → 52.0 MiB
std::string bytes(const nlohmann::json& object, const char* key);
// 3723500 → 1 h 2 min
std::string span(uint64_t ms);

// Columns as wide as their widest cell. Those whose heading begins with '>' are set to the right.
std::string table(std::vector<Row> rows);

}  // namespace millrace::admin
