// A TOML file of options, flattened into keys, texts and lines, so that only one source file knows
// toml++. Which keys are allowed is not decided here.
// Shape:   key = value at the top, or in a table named for a command: [serve]
// Errors:  ExitCode::config, naming file and line: unreadable, not TOML, values that can't be
//          written as text (tables in tables, dates)
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace millrace {

struct ConfigEntry {
  std::string table;               // empty: at the top of the file
  std::string key;                 // empty: the header of the table itself
  std::vector<std::string> texts;  // several when the value is a list
  std::string place;               // file:line
};

Result<std::vector<ConfigEntry>> read_config_file(const std::string& path);
// The same from text; `name` stands for the file in messages.
Result<std::vector<ConfigEntry>> parse_config(const std::string& text, const std::string& name);

}  // namespace millrace
