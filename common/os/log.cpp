#include "common/os/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "common/base/terminal_text.h"
#include "common/base/units.h"
#include "common/os/stderr_output.h"

namespace millrace {
namespace {

struct LevelName {
  std::string_view text;
  LogLevel level;
  spdlog::level::level_enum spdlog_level;
};

constexpr std::array<LevelName, 4> kLevels{{
    {"debug", LogLevel::debug, spdlog::level::debug},
    {"info", LogLevel::info, spdlog::level::info},
    {"warning", LogLevel::warning, spdlog::level::warn},
    {"error", LogLevel::error, spdlog::level::err},
}};

bool needs_quotes(std::string_view value) {
  if (value.empty()) return true;
  for (unsigned char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\') return true;
  }
  return terminal_text(value) != value;
}

std::string quoted(std::string_view text) {
  std::string value = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') value += '\\';
    value += c;
  }
  return terminal_text(value) + '"';
}

// The beginning of a long value, up to a whole character, and how long it is.
std::string shortened(std::string_view value) {
  size_t size = kMaxLogValue;
  while (size > 0 && (static_cast<unsigned char>(value[size]) & 0xC0) == 0x80) --size;
  return fmt::format("{}... ({} bytes)", value.substr(0, size), value.size());
}

std::atomic<uint64_t> dropped_lines{0};

class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    if (unreported_ > 0) append_report(message, text);
    formatter_->format(message, text);
    if (write_to_stderr({text.data(), text.size()})) {
      unreported_ = 0;
    } else {
      ++unreported_;
      ++dropped_lines;
    }
  }
  void flush_() override {}

  // In one write with the line: by itself it would fill the room that lines do not find.
  void append_report(const spdlog::details::log_msg& next, spdlog::memory_buf_t& text) {
    const std::string report =
        format_log("log lines dropped: they were not read in time", {{"lines", unreported_}});
    formatter_->format({next.time, next.source, next.logger_name, spdlog::level::warn, report},
                       text);
  }

  uint64_t unreported_ = 0;
};

// The fields are formatted only when the line is wanted.
void write(spdlog::level::level_enum level, std::string_view message, LogFields fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(level)) return;
  std::string line = format_log(message, fields);
  logger->log(level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

LogField::LogField(std::string_view name, Millis duration)
    : key(name), value(format_duration(duration)) {}
LogField::LogField(std::string_view name, double number)
    : key(name), value(fmt::format("{:.6g}", number)) {}

Result<LogLevel> parse_log_level(std::string_view text) {
  for (const LevelName& name : kLevels) {
    if (name.text == text) return name.level;
  }
  return Error{ExitCode::usage,
               fmt::format("'{}' is not a log level; write debug, info, warning or error", text)};
}

// The logger is made once: a second producer of the same program would take it from under the first
// one's thread.
void start_log(LogLevel level) {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto sink = std::make_shared<StderrSink>();
    auto made = std::make_shared<spdlog::logger>("", std::move(sink));
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    spdlog::set_default_logger(made);
    return made;
  }();
  logger->set_level(kLevels.at(static_cast<size_t>(level)).spdlog_level);
}

uint64_t log_lines_dropped() { return dropped_lines; }

void log_debug(std::string_view message, LogFields fields) {
  write(spdlog::level::debug, message, fields);
}
void log_info(std::string_view message, LogFields fields) {
  write(spdlog::level::info, message, fields);
}
void log_warning(std::string_view message, LogFields fields) {
  write(spdlog::level::warn, message, fields);
}
void log_error(std::string_view message, LogFields fields) {
  write(spdlog::level::err, message, fields);
}

std::string format_log(std::string_view message, LogFields fields) {
  std::string line = terminal_text(message);
  for (const LogField& field : fields) {
    const std::string value =
        field.value.size() > kMaxLogValue ? shortened(field.value) : field.value;
    line += ' ';
    line += field.key;
    line += '=';
    line += needs_quotes(value) ? quoted(value) : value;
  }
  return line;
}

}  // namespace millrace
