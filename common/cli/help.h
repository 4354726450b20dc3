// The texts of --help, of a program and of each command, wrapped to the terminal.
// Shape:   usage, summary, arguments, options by group, examples, and where else options can be set
// Limits:  lines of kMinWidth to kMaxWidth columns; a single longer word stands on a line of its own
// Threads: pure functions
// Source:  CLI11's help knows neither the width of the terminal nor the layers of environment and
//          file, so the help is ours.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "common/cli/command.h"

namespace millrace {

constexpr int kMinWidth = 60;
constexpr int kDefaultWidth = 80;
constexpr int kMaxWidth = 120;  // longer lines are hard to read

// COLUMNS where it is a number, else the terminal on stdout, else kDefaultWidth. `columns` may be
// null.
int help_width(const char* columns);

// --drain-timeout is MILLRACE_DRAIN_TIMEOUT in the environment ...
std::string variable_of(std::string_view flag);
// ... and drain-timeout in the file.
std::string_view key_of(const OptionSpec& spec);
// Whether the environment sets an option, and whether the file does.
bool in_environment(const OptionSpec& spec);
bool in_file(const OptionSpec& spec);

std::string program_help(std::string_view program, std::string_view summary,
                         const std::deque<Command>& commands, int width);
std::string command_help(std::string_view program, const Command& command, int width);

}  // namespace millrace
