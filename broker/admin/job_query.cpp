#include "broker/admin/job_query.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/units.h"
#include "common/http/query.h"
#include "common/protocol/queue_name.h"

namespace millrace::admin {
namespace {

using protocol::JobState;

constexpr JobState kListed[] = {JobState::scheduled, JobState::ready, JobState::leased,
                                JobState::retry_wait, JobState::dead};

Error malformed(std::string message) { return {ExitCode::usage, std::move(message)}; }
Error bad_value(std::string message) { return {ExitCode::bad_data, std::move(message)}; }

// "retry_wait" too: so the keys of /v1/status are written.
Result<uint32_t> state_bit(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  for (const JobState state : kListed)
    if (name == name_of(state)) return uint32_t{1} << unsigned(state);
  return bad_value(fmt::format(
      "state: '{}' is none of scheduled, ready, leased, retry-wait and dead; jobs that have ended "
      "are not listed, but GET /v1/jobs/ID shows one",
      name));
}

Result<void> read_states(std::string_view list, JobFilter* filter) {
  for (;;) {
    const size_t comma = std::min(list.find(','), list.size());
    auto bit = state_bit(std::string(list.substr(0, comma)));
    if (!bit) return bit.error();
    filter->states |= *bit;
    if (comma == list.size()) return {};
    list.remove_prefix(comma + 1);
  }
}

Result<void> read_age(std::string_view text, JobFilter* filter) {
  auto age = parse_duration(text, Millis(1));
  if (!age) return bad_value("age: " + age.error().message);
  filter->age = *age;
  return {};
}

Result<void> read_limit(std::string_view text, size_t* to) {
  auto limit = parse_integer(text, 1, ListJobs::kMaxLimit);
  if (!limit) return bad_value("limit: " + limit.error().message);
  *to = size_t(*limit);
  return {};
}

Error bad_cursor(const std::string& value) {
  return bad_value(fmt::format("cursor: '{}' is not the 'next' of a previous page", value));
}

Result<void> read_cursor(const std::string& text, ListJobs* asked) {
  auto cursor = parse_job_name(text);
  if (!cursor || !cursor->broker) return bad_cursor(text);
  asked->cursor = *cursor;
  return {};
}

Result<void> read_cursor(const std::string& text, ListDead* asked) {
  const size_t dot = std::min(text.find('.'), text.size());
  auto time = parse_integer(text.substr(0, dot), 0, INT64_MAX);
  auto job = parse_integer(text.substr(std::min(dot + 1, text.size())), 0, INT64_MAX);
  if (!time || !job) return bad_cursor(text);
  asked->cursor = {wall_from_int(*time), JobId{uint64_t(*job)}};
  return {};
}

// Those that both listings have. False: there is none of this name.
Result<bool> read_common(const std::string& name, const std::string& value, JobFilter* filter) {
  if (name == "age") {
    if (auto read = read_age(value, filter); !read) return read.error();
  } else if (name == "worker") {
    filter->worker = value;
  } else if (name == "error") {
    filter->error = value;
  } else if (name == "queue") {
    if (!protocol::stored_queue_name(value))
      return bad_value(fmt::format("queue: '{}' is not a queue name", value));
    filter->queue = value;
  } else {
    return false;
  }
  return true;
}

Result<void> read_parameter(const std::string& name, const std::string& value, ListJobs* asked) {
  if (name == "state") return read_states(value, &asked->filter);
  if (name == "limit") return read_limit(value, &asked->limit);
  if (name == "cursor") return read_cursor(value, asked);
  if (name == "key") {
    asked->key = value;
    return {};
  }
  return malformed(
      fmt::format("'{}' is not a parameter; the parameters are queue, state, key, "
                  "worker, error, age, limit and cursor",
                  name));
}

Result<void> read_parameter(const std::string& name, const std::string& value, ListDead* asked) {
  if (name == "limit") return read_limit(value, &asked->limit);
  if (name == "cursor") return read_cursor(value, asked);
  if (name == "group" && value != "error")
    return bad_value(
        fmt::format("group: '{}' is not error: dead jobs are grouped by it only", value));
  if (name == "group") {
    asked->grouped = true;
    return {};
  }
  return malformed(
      fmt::format("'{}' is not a parameter; the parameters are queue, worker, error, "
                  "age, group, limit and cursor",
                  name));
}

template <typename Asked>
Result<Asked> read_query(std::string_view query) {
  const auto pairs = http::parse_query(query);
  if (!pairs) return malformed("the query is not percent-encoded correctly");
  Asked asked;
  std::set<std::string> seen;
  for (const auto& [name, value] : *pairs) {
    if (!seen.insert(name).second) return malformed(fmt::format("'{}' is given twice", name));
    if (value.empty()) return bad_value(fmt::format("{}: the value is missing", name));
    auto known = read_common(name, value, &asked.filter);
    if (!known) return known.error();
    if (*known) continue;
    if (auto read = read_parameter(name, value, &asked); !read) return read.error();
  }
  return asked;
}

}  // namespace

Result<ListJobs> read_job_query(std::string_view query) {
  auto asked = read_query<ListJobs>(query);
  if (asked && !asked->key.empty() && asked->filter.queue.empty())
    return malformed("a key belongs to a queue: give queue=NAME too");
  return asked;
}

Result<ListDead> read_dead_query(std::string_view query) { return read_query<ListDead>(query); }

}  // namespace millrace::admin
