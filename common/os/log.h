// Structured log lines on stderr: one per transition of state, for people and for grep.
// Shape:   2026-01-02T03:04:05.678Z info broker listening frontend=tcp://127.0.0.1:5570 jobs=3
//          time in UTC, level, message, key=value pairs; a value that is empty or holds a space,
//          quote, '=' or control character is quoted and escaped, so a line stays one line
// Limits:  never waits for who reads stderr: a line that finds no room is dropped and counted, and
//          the next one that finds room is preceded by how many were
//          a value longer than kMaxLogValue is cut, and its length is given
//          never the bytes of a payload: log its id, its size and its queue
// Threads: any, once start_log() has returned; the state is spdlog's default logger
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"

namespace millrace {

// Bytes of a value: texts of peers and handlers can be as long as a message.
inline constexpr size_t kMaxLogValue = 2048;

enum class LogLevel { debug, info, warning, error };

Result<LogLevel> parse_log_level(std::string_view text);

// Before the first line; again only to change the level.
void start_log(LogLevel level);

// Since the start of the process.
uint64_t log_lines_dropped();

struct LogField {
  std::string_view key;
  std::string value;

  LogField(std::string_view name, std::string_view text) : key(name), value(text) {}
  LogField(std::string_view name, const char* text) : key(name), value(text) {}
  LogField(std::string_view name, const std::string& text) : key(name), value(text) {}
  LogField(std::string_view name, bool flag) : key(name), value(flag ? "true" : "false") {}
  LogField(std::string_view name, double number);
  LogField(std::string_view name, Millis duration);
  LogField(std::string_view name, std::integral auto number)
      : key(name), value(std::to_string(number)) {}
};

using LogFields = std::initializer_list<LogField>;

void log_debug(std::string_view message, LogFields fields = {});
void log_info(std::string_view message, LogFields fields = {});
void log_warning(std::string_view message, LogFields fields = {});
void log_error(std::string_view message, LogFields fields = {});

// Message and fields as they stand in the line.
std::string format_log(std::string_view message, LogFields fields);

}  // namespace millrace
