#include "producer/spool/rejects.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/terminal_text.h"
#include "common/base/utf8.h"

namespace millrace::producer {
namespace {

constexpr const char* kName = "rejected.ndjson";
constexpr size_t kStep = 64 << 10;

using Json = nlohmann::ordered_json;

// JSON has no bytes: each that is no text is a '?'.
std::string text(std::string_view bytes) { return protocol::to_utf8(bytes); }

std::string time_text(WallMs time) {
  const int64_t ms = to_int(time);
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(std::time_t(ms / 1000)), ms % 1000);
}

Json options_of(const protocol::SubmitOptions& options) {
  constexpr const char* kReports[] = {"none", "outcome", "result"};
  const protocol::SubmitOptions defaults;
  Json json = Json::object();
  if (options.report != defaults.report) json["report"] = kReports[size_t(options.report)];
  if (options.max_attempts) json["max_attempts"] = options.max_attempts;
  if (options.priority != defaults.priority) json["priority"] = options.priority;
  if (options.delay.count()) json["delay_ms"] = options.delay.count();
  if (options.ttl.count()) json["ttl_ms"] = options.ttl.count();
  if (!options.key.empty() && protocol::is_utf8(options.key)) json["key"] = options.key;
  if (!options.key.empty() && !protocol::is_utf8(options.key))
    json["key_base64"] = base64(options.key);
  return json;
}

// Where the file's last whole line ends.
std::error_code find_end(journal::File& file, uint64_t* end) {
  if (auto error = file.size(end)) return error;
  std::string bytes;
  for (uint64_t to = *end; to > 0;) {
    const uint64_t from = to - std::min<uint64_t>(to, kStep);
    bytes.resize(to - from);
    size_t got = 0;
    if (auto error = file.read(from, bytes.size(), bytes.data(), &got)) return error;
    const size_t at = std::string_view(bytes).substr(0, got).rfind('\n');
    if (at != std::string_view::npos) return *end = from + at + 1, std::error_code();
    to = from;
  }
  *end = 0;
  return {};
}

std::error_code append(journal::File& file, std::string_view lines) {
  uint64_t end = 0;
  if (auto error = find_end(file, &end)) return error;
  if (auto error = file.truncate(end)) return error;
  const std::string_view parts[] = {lines};
  if (auto error = file.write(parts, end)) return error;
  return file.sync();
}

}  // namespace

std::string text_of(const RejectedLine& line) {
  Json json;
  json["time"] = time_text(line.time);
  json["broker"] = text(line.broker);
  json["queue"] = text(line.queue);
  json["seq"] = line.seq.value;
  json["reason"] = text(line.reason);
  json["message"] = text(line.message);
  if (Json options = options_of(line.options); !options.empty()) json["options"] = options;
  if (protocol::is_utf8(line.payload)) {
    json["payload"] = std::string(line.payload);
  } else {
    json["payload_base64"] = base64(line.payload);
  }
  return terminal_json(json.dump()) + "\n";
}

Result<void> append_rejected(journal::Directory& root, std::string_view lines) {
  auto opened = root.open(kName);
  if (opened.error == std::errc::no_such_file_or_directory) opened = root.create(kName);
  if (opened.error) return journal::file_error(root, kName, "opened", opened.error);
  auto error = append(*opened.file, lines);
  if (error == std::errc::no_such_file_or_directory) {  // moved away at this moment
    opened = root.create(kName);
    error = opened.error ? opened.error : append(*opened.file, lines);
  }
  if (error) return journal::file_error(root, kName, "written", error);
  if (auto failed = root.sync()) return journal::file_error(root, "", "synced", failed);
  return {};
}

}  // namespace millrace::producer
