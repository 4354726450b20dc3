#include "broker/admin/operation_routes.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "broker/admin/job_query.h"
#include "common/protocol/limits.h"
#include "common/protocol/messages.h"
#include "common/protocol/queue_name.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

// The name in `path`, when the rest of it is the pattern's; a name has no slash.
std::optional<std::string_view> match(std::string_view pattern, std::string_view path) {
  const size_t gap = pattern.find("{}");
  if (gap == std::string_view::npos)
    return pattern == path ? std::optional(path.substr(path.size())) : std::nullopt;
  const std::string_view before = pattern.substr(0, gap), behind = pattern.substr(gap + 2);
  if (path.size() <= before.size() + behind.size() || !path.starts_with(before) ||
      !path.ends_with(behind))
    return {};
  path = path.substr(gap, path.size() - before.size() - behind.size());
  return path.find('/') == std::string_view::npos ? std::optional(path) : std::nullopt;
}

Error malformed(std::string message) { return {ExitCode::usage, std::move(message)}; }
Error bad_value(std::string message) { return {ExitCode::bad_data, std::move(message)}; }
Error nothing_there(std::string message) { return {ExitCode::unavailable, std::move(message)}; }

int status_of(ExitCode code) {
  return code == ExitCode::usage ? 400 : code == ExitCode::unavailable ? 404 : 422;
}

Result<JobName> job_of(const std::string& name) {
  if (auto job = parse_job_name(name)) return *job;
  return nothing_there(fmt::format("'{}' is not a job ID; a job ID looks like 3f9a1c07-42", name));
}
// Of a queue that there may be, if only from a journal of an earlier version.
Result<std::string> queue_of(const std::string& name) {
  if (protocol::stored_queue_name(name)) return name;
  return nothing_there(fmt::format("'{}' is not a queue name", name));
}
Result<void> no_body(const json& body) {
  if (body.empty()) return {};
  return malformed("this takes no settings: send an empty body, or {}");
}

template <typename What>
Result<Operation> about_job(const std::string& name, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  auto job = job_of(name);
  if (!job) return job.error();
  return Operation(What{*job});
}

template <typename What>
Result<Operation> about_queue(const std::string& name, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  auto queue = queue_of(name);
  if (!queue) return queue.error();
  return Operation(What{*queue});
}

Result<Operation> list_queues(const std::string& query, const json& body) {
  constexpr std::string_view kCursor = "cursor=";
  if (auto none = no_body(body); !none) return none.error();
  ListQueues asked;
  if (query.starts_with(kCursor)) {
    const char* const end = query.data() + query.size();
    const auto parsed = std::from_chars(query.data() + kCursor.size(), end, asked.cursor);
    if (parsed.ec == std::errc{} && parsed.ptr == end) return Operation(asked);
  }
  return malformed("a page of queues needs cursor=N: 0, or the 'next' of the previous page");
}

Result<Operation> list_jobs(const std::string& query, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  auto asked = read_job_query(query);
  if (!asked) return asked.error();
  return Operation(*std::move(asked));
}

Result<Operation> list_dead(const std::string& query, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  auto asked = read_dead_query(query);
  if (!asked) return asked.error();
  return Operation(*std::move(asked));
}

template <bool Paused>
Result<Operation> set_paused(const std::string& name, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  auto queue = queue_of(name);
  if (!queue) return queue.error();
  QueueChange change;
  change.paused = Paused;
  return Operation(SetQueue{*queue, change, false});
}

Result<Operation> set_queue(const std::string& name, const json& body) {
  auto queue = queue_of(name);
  if (!queue) return queue.error();
  auto change = read_queue_change(body);
  if (!change) return change.error();
  return Operation(SetQueue{*queue, *change, protocol::valid_queue_name(*queue)});
}

Result<JobName> job_in(const json& value) {
  if (value.is_string())
    if (auto job = parse_job_name(value.get<std::string>())) return *job;
  if (value.is_number_unsigned()) return JobName{std::nullopt, {value.get<uint64_t>()}};
  return bad_value("id: expected a job ID, for example \"3f9a1c07-42\"");
}

Result<DeadChoice> choice_of(const json& body) {
  if (!body.is_object())
    return malformed("expected a JSON object, for example {\"queue\": \"mail\"}");
  DeadChoice choice;
  bool all = false;
  for (const auto& [key, value] : body.items()) {
    if (key == "id") {
      auto job = job_in(value);
      if (!job) return job.error();
      choice.job = *job;
    } else if (key == "queue" || key == "error") {
      if (!value.is_string() || value.get<std::string>().empty())
        return bad_value(key + ": expected a string");
      (key == "queue" ? choice.queue : choice.error) = value.get<std::string>();
    } else if (key == "older_ms") {
      if (!value.is_number_unsigned() || value == 0 ||
          value.get<uint64_t>() > protocol::kMaxDelayMs)
        return bad_value("older_ms: expected a whole number of milliseconds above 0");
      choice.older = Millis(value.get<int64_t>());
    } else if (key == "all") {
      if (!value.is_boolean()) return bad_value("all: expected true or false");
      all = value.get<bool>();
    } else {
      return malformed(fmt::format(
          "'{}' is not a filter; the filters are id, queue, error, older_ms and all", key));
    }
  }
  const bool chosen =
      choice.job || !choice.queue.empty() || !choice.error.empty() || choice.older.count() > 0;
  if (chosen == all)
    return malformed(
        "select jobs by id, queue, error or older_ms, or all of them by {\"all\": true}");
  return choice;
}

template <typename What>
Result<Operation> about_dead(const std::string&, const json& body) {
  auto choice = choice_of(body);
  if (!choice) return choice.error();
  return Operation(What{*std::move(choice)});
}

Result<Operation> about_operation(const std::string& name, const json& body) {
  if (auto none = no_body(body); !none) return none.error();
  ShowOperation asked;
  const char* const end = name.data() + name.size();
  auto parsed = std::from_chars(name.data(), end, asked.incarnation);
  if (parsed.ec == std::errc{} && parsed.ptr != end && *parsed.ptr == '-') {
    parsed = std::from_chars(parsed.ptr + 1, end, asked.number);
    if (parsed.ec == std::errc{} && parsed.ptr == end) return Operation(asked);
  }
  return nothing_there(fmt::format("'{}' is not an operation ID; one looks like 5-2", name));
}

constexpr OperationRoute kOperations[] = {
    {"GET", "/v1/operations/{}", about_operation},
    {"GET", "/v1/jobs", list_jobs},
    {"GET", "/v1/jobs/{}", about_job<ShowJob>},
    {"GET", "/v1/jobs/{}/payload", about_job<ShowPayload>},
    {"POST", "/v1/jobs/{}/cancel", about_job<CancelJob>},
    {"GET", "/v1/queues", list_queues},
    {"GET", "/v1/queues/{}", about_queue<ShowQueue>},
    {"PATCH", "/v1/queues/{}", set_queue},
    {"DELETE", "/v1/queues/{}", about_queue<DeleteQueue>},
    {"POST", "/v1/queues/{}/pause", set_paused<true>},
    {"POST", "/v1/queues/{}/resume", set_paused<false>},
    {"POST", "/v1/queues/{}/purge", about_queue<PurgeQueue>},
    {"GET", "/v1/dead", list_dead},
    {"POST", "/v1/dead/retry", about_dead<RetryDead>},
    {"POST", "/v1/dead/drop", about_dead<DropDead>},
};

}  // namespace

std::optional<JobName> parse_job_name(std::string_view text) {
  JobName name;
  BrokerId broker;
  if (parse_job_text(text, &broker, &name.job)) {
    name.broker = broker;
    return name;
  }
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), name.job.value);
  if (text.empty() || parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size())
    return std::nullopt;
  return name;
}

const OperationRoute* find_operation(std::string_view method, std::string_view path) {
  for (const OperationRoute& route : kOperations)
    if (route.method == method && match(route.path, path)) return &route;
  return nullptr;
}

std::string methods_of(std::string_view path) {
  std::string methods;
  for (const OperationRoute& route : kOperations) {
    if (!match(route.path, path)) continue;
    methods += methods.empty() ? "" : ", ";
    methods += route.method == "GET" ? "GET, HEAD" : route.method;
  }
  return methods;
}

std::variant<Operation, Answer> read_operation(const OperationRoute& route,
                                               const http::Request& request) {
  json body = json::object();
  if (!request.body.empty()) body = json::parse(request.body, nullptr, false);
  if (body.is_discarded()) return http::problem(400, "the body is not JSON");
  const bool has_name = route.path.find("{}") != std::string_view::npos;
  const auto name = has_name ? std::string(*match(route.path, request.path)) : request.query;
  auto operation = route.read(name, body);
  if (!operation)
    return http::problem(status_of(operation.error().code), operation.error().message);
  return *std::move(operation);
}

}  // namespace millrace::admin
