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

Result<void> read_limit(std::string_view text, ListJobs* asked) {
  auto limit = parse_integer(text, 1, ListJobs::kMaxLimit);
  if (!limit) return bad_value("limit: " + limit.error().message);
  asked->limit = size_t(*limit);
  return {};
}

Result<void> read_parameter(const std::string& name, const std::string& value, ListJobs* asked) {
  if (value.empty()) return bad_value(fmt::format("{}: the value is missing", name));
  if (name == "state") return read_states(value, &asked->filter);
  if (name == "age") return read_age(value, &asked->filter);
  if (name == "limit") return read_limit(value, asked);
  if (name == "worker") return asked->filter.worker = value, Result<void>();
  if (name == "error") return asked->filter.error = value, Result<void>();
  if (name == "key") return asked->key = value, Result<void>();
  if (name == "queue") {
    if (!protocol::stored_queue_name(value))
      return bad_value(fmt::format("queue: '{}' is not a queue name", value));
    return asked->filter.queue = value, Result<void>();
  }
  if (name != "cursor")
    return malformed(
        fmt::format("'{}' is not a parameter; the parameters are queue, state, key, "
                    "worker, error, age, limit and cursor",
                    name));
  auto cursor = parse_job_name(value);
  if (!cursor || !cursor->broker)
    return bad_value(fmt::format("cursor: '{}' is not the 'next' of a previous page", value));
  asked->cursor = *cursor;
  return {};
}

}  // namespace

Result<ListJobs> read_job_query(std::string_view query) {
  const auto pairs = http::parse_query(query);
  if (!pairs) return malformed("the query is not percent-encoded correctly");
  ListJobs asked;
  std::set<std::string> seen;
  for (const auto& [name, value] : *pairs) {
    if (!seen.insert(name).second) return malformed(fmt::format("'{}' is given twice", name));
    if (auto read = read_parameter(name, value, &asked); !read) return read.error();
  }
  if (!asked.key.empty() && asked.filter.queue.empty())
    return malformed("a key belongs to a queue: give queue=NAME too");
  return asked;
}

}  // namespace millrace::admin
