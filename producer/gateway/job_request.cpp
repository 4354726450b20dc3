#include "producer/gateway/job_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/units.h"
#include "common/http/query.h"

namespace millrace::producer {

using http::same_word;

namespace {

constexpr const char* kNames = "priority, delay, ttl, max_attempts and wait";

Error bad(std::string message) { return {ExitCode::bad_data, std::move(message)}; }

// Texts of values have no end that a client could not guess; quoted they need one.
std::string shown(std::string_view text) { return std::string(text.substr(0, 64)); }

template <typename T, typename Target>
Result<void> take(Result<T> parsed, const std::string& name, Target& target) {
  if (!parsed) return bad(fmt::format("query parameter {}: {}", name, parsed.error().message));
  target = Target(*parsed);
  return {};
}

Result<void> take(const std::string& name, const std::string& value, Millis max_wait,
                  JobRequest& job) {
  if (value.size() > 64) return bad(fmt::format("query parameter {} is too long", shown(name)));
  if (name == "priority")
    return take(parse_integer(value, 0, protocol::kMaxPriority), name, job.options.priority);
  if (name == "max_attempts")
    return take(parse_integer(value, 1, 255), name, job.options.max_attempts);
  if (name == "ttl" || name == "delay") {
    Millis& time = name == "ttl" ? job.options.ttl : job.options.delay;
    const Millis least(name == "ttl" ? 1 : 0);
    if (auto taken = take(parse_duration(value, least), name, time); !taken) return taken;
    if (uint64_t(time.count()) <= protocol::kMaxDelayMs) return {};
    return bad(fmt::format("query parameter {}: the maximum is 100 years", name));
  }
  if (name == "wait") {
    if (max_wait == Millis(0)) return bad("a batch does not wait for results; leave wait out");
    if (auto taken = take(parse_duration(value), name, job.wait); !taken) return taken;
    if (job.wait <= max_wait) return {};
    return bad(fmt::format("query parameter wait: the maximum is {} (--max-wait of the gateway)",
                           format_duration(max_wait)));
  }
  return bad(fmt::format("query parameter {} is not known: there are {}", shown(name), kNames));
}

Result<void> read_query(const http::Request& request, Millis max_wait, JobRequest& job) {
  auto pairs = http::parse_query(request.query);
  if (!pairs) return bad("in the query a % is not followed by two hexadecimal digits");
  std::set<std::string> seen;
  for (const auto& [name, value] : *pairs) {
    if (!seen.insert(name).second)
      return bad(fmt::format("query parameter {} is there twice", shown(name)));
    if (auto taken = take(name, value, max_wait, job); !taken) return taken;
  }
  return {};
}

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

// As it stands, or as a quoted string, which means the same key.
Result<std::string> read_key(const http::Request& request, size_t longest) {
  constexpr std::string_view kName = "Idempotency-Key";
  auto is_key = [&](const auto& header) { return same_word(header.first, kName); };
  const auto count = std::count_if(request.headers.begin(), request.headers.end(), is_key);
  if (count == 0) return std::string();
  if (count > 1) return bad("Idempotency-Key is there twice");
  std::string_view key = request.header(kName);
  if (key.size() >= 2 && key.front() == '"' && key.back() == '"')
    key = key.substr(1, key.size() - 2);
  if (key.empty() || key.size() > longest || !printable(key))
    return bad(fmt::format("Idempotency-Key is 1 to {} printable ASCII characters without spaces{}",
                           longest,
                           longest < protocol::kMaxKey ? ", since a line's number is added" : ""));
  return std::string(key);
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

// What stands before the separator, which is taken off too.
std::string_view take_part(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return trimmed(part);
}

Result<JobRequest> read(const http::Request& request, Millis max_wait, size_t longest_key) {
  JobRequest job;
  if (auto taken = read_query(request, max_wait, job); !taken) return taken.error();
  auto key = read_key(request, longest_key);
  if (!key) return key.error();
  job.options.key = *std::move(key);
  if (job.wait > Millis(0)) job.options.report = protocol::Report::result;
  job.raw = wants_bytes(request);
  return job;
}

}  // namespace

std::string_view content_coding(const http::Request& request) {
  for (const auto& [name, value] : request.headers) {
    if (!same_word(name, "Content-Encoding")) continue;
    for (std::string_view rest = value; !rest.empty();) {
      const std::string_view coding = take_part(rest, ',');
      if (!coding.empty() && !same_word(coding, "identity")) return coding.substr(0, 64);
    }
  }
  return {};
}

bool wants_bytes(const http::Request& request) {
  std::string_view accept = request.header("Accept");
  while (!accept.empty()) {
    std::string_view range = take_part(accept, ',');
    if (!same_word(take_part(range, ';'), "application/octet-stream")) continue;
    bool is_wanted = true;
    while (!range.empty()) {
      const std::string_view parameter = take_part(range, ';');
      const bool is_weight = parameter.size() > 2 && same_word(parameter.substr(0, 2), "q=");
      if (is_weight) is_wanted = parameter.find_first_not_of("0.", 2) != std::string_view::npos;
    }
    return is_wanted;
  }
  return false;
}

Result<JobRequest> read_job_request(const http::Request& request, Millis max_wait) {
  return read(request, max_wait, protocol::kMaxKey);
}

Result<JobRequest> read_batch_request(const http::Request& request) {
  return read(request, Millis(0), kMaxBatchKey);
}

Result<std::vector<BatchLine>> split_batch(std::string_view body) {
  if (body.empty()) return bad("the body is empty: it has a JSON value in each line");
  std::vector<BatchLine> lines;
  while (!body.empty()) {
    if (lines.size() == kMaxBatchLines)
      return bad(fmt::format("a batch has {} lines at most", kMaxBatchLines));
    std::string_view line = body.substr(0, body.find('\n'));
    body.remove_prefix(std::min(line.size() + 1, body.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    BatchLine& added = lines.emplace_back(BatchLine{line, ""});
    if (line.empty()) {
      added.fault = "the line is empty";
    } else if (line.starts_with("\xEF\xBB\xBF")) {  // the parser below would pass over it
      added.fault = "the line begins with a byte order mark, which no JSON value does";
    } else if (!nlohmann::json::accept(line.begin(), line.end())) {
      added.fault = "the line is not a JSON value";
    }
  }
  return lines;
}

}  // namespace millrace::producer
