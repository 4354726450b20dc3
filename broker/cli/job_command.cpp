#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "broker/admin/operation.h"
#include "broker/cli/command_parts.h"
#include "broker/cli/job_text.h"
#include "broker/cli/operation_commands.h"
#include "broker/cli/status_text.h"
#include "broker/cli/text_table.h"
#include "common/base/base64.h"
#include "common/base/terminal_text.h"
#include "common/http/query.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

struct JobFlags : Common {
  std::string queue, state, key, worker, error;
  std::optional<Millis> age;
  std::optional<int64_t> limit;

  bool has_filter() const {
    return !queue.empty() || !state.empty() || !key.empty() || !worker.empty() || !error.empty() ||
           age || limit;
  }
};

constexpr int64_t kDefaultLimit = 100;

std::string target_of(const JobFlags& flags, uint64_t limit, const std::string& cursor) {
  http::QueryPairs pairs;
  auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) pairs.emplace_back(name, value);
  };
  add("queue", flags.queue);
  add("state", flags.state);
  add("key", flags.key);
  add("worker", flags.worker);
  add("error", flags.error);
  if (flags.age) add("age", format_duration(*flags.age));
  add("limit", std::to_string(limit));
  add("cursor", cursor);
  return "/v1/jobs?" + http::format_query(pairs);
}

// Page by page until there are as many as were asked for. A page may be empty and not the last.
Result<json> ask_for_jobs(const JobFlags& flags) {
  const auto most = size_t(flags.limit.value_or(kDefaultLimit));
  json listed;
  for (std::string cursor;;) {
    const size_t have = listed.is_null() ? 0 : listed.at("jobs").size();
    auto page =
        ask_broker(flags.broker, "GET",
                   target_of(flags, std::min<size_t>(most - have, ListJobs::kMaxLimit), cursor));
    if (!page) return page.error();
    if (listed.is_null()) {
      listed = std::move(page->json);
    } else {
      for (json& job : page->json.at("jobs")) listed["jobs"].push_back(std::move(job));
      listed["next"] = page->json.at("next");
    }
    if (listed.at("next").is_null() || listed.at("jobs").size() >= most) return listed;
    cursor = listed.at("next").get<std::string>();
  }
}

Result<ExitCode> list_jobs(const JobFlags& flags) {
  if (!flags.name.empty())
    return usage(fmt::format("job ls takes no ID; use 'job show {}'", flags.name));
  if (!flags.key.empty() && flags.queue.empty())
    return usage("a key belongs to a queue: give --queue NAME with --key");
  try {
    auto listed = ask_for_jobs(flags);
    if (!listed) return listed.error();
    fmt::print("{}", flags.json
                         ? terminal_json(listed->dump(-1, ' ', false, kReplaceInvalid)) + "\n"
                         : listed_jobs_text(*listed));
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, "/v1/jobs");
  }
  return ExitCode::ok;
}

// Its lines; what a terminal would obey becomes visible.
void print_on_terminal(std::string_view payload) {
  while (!payload.empty()) {
    const size_t end = std::min(payload.find('\n'), payload.size());
    fmt::print("{}\n", terminal_text(payload.substr(0, end)));
    payload.remove_prefix(std::min(end + 1, payload.size()));
  }
}

Result<ExitCode> print_payload(const JobFlags& flags) {
  auto reply = fetch_bytes(flags.broker, "/v1/jobs/" + flags.name + "/payload");
  if (!reply) return reply.error();
  const bool is_binary = reply->content_type == "application/octet-stream";
  if (flags.json) {
    json answer{{"id", flags.name}, {"bytes", reply->body.size()}, {"type", reply->content_type}};
    answer[is_binary ? "payload_base64" : "payload"] =
        is_binary ? base64(reply->body) : reply->body;
    fmt::print("{}\n", terminal_json(answer.dump(-1, ' ', false, kReplaceInvalid)));
  } else if (!isatty(STDOUT_FILENO)) {
    std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
  } else if (is_binary) {
    return usage(fmt::format("the payload is binary ({} bytes): redirect stdout to a file",
                             reply->body.size()));
  } else {
    print_on_terminal(reply->body);
  }
  return ExitCode::ok;
}

Result<ExitCode> run_job(const JobFlags& flags) {
  const std::string& action = flags.action;
  if (action == "ls") return list_jobs(flags);
  const bool cancel = action == "cancel";
  if (!cancel && action != "show" && action != "why" && action != "payload")
    return unknown_action("job", action, "ls, or show, why, payload or cancel, and an ID");
  if (flags.has_filter())
    return usage(fmt::format("job {} takes no filter; only job ls does", action));
  if (flags.name.empty())
    return usage(fmt::format("job {} needs a job ID, for example 3f9a1c07-42", action));
  if (!parse_job_name(flags.name)) return not_a_job_id(flags.name);
  if (action == "payload") return print_payload(flags);
  const std::string target = "/v1/jobs/" + flags.name;
  if (!cancel) return ask(flags, {"GET", target, nullptr, action == "why" ? why_text : job_text});
  return ask(flags, {"POST", target + "/cancel", nullptr, [](const json& answer) {
                       return fmt::format(
                           "{} {}\n", text(answer, "id"),
                           answer.at("cancelled") == 0 ? "was already cancelled" : "is cancelled");
                     }});
}

}  // namespace

void add_job_command(Options& options) {
  auto flags = std::make_shared<JobFlags>();
  Command& job = add_command(
      options, "job", "List jobs; show one or its payload, explain why it waits, or cancel it",
      flags, run_job);
  job.synopsis("ls|show|why|payload|cancel [ID] [OPTIONS]");
  job.argument("ACTION", flags->action,
               "ls: list unfinished and dead jobs, oldest first; show: print the job; why: explain "
               "why it waits; payload: print its payload; cancel: cancel it");
  job.argument("ID", flags->name, "job ID, for example 3f9a1c07-42");
  job.group("Filter (for ls)");
  job.text("--queue", flags->queue, "NAME", "only jobs of this queue");
  job.text("--state", flags->state, "STATE[,...]",
           "only jobs in these states: scheduled, ready, leased, retry-wait, dead");
  job.text("--key", flags->key, "KEY", "the job that this idempotency key of --queue refers to");
  job.text("--worker", flags->worker, "NAME",
           "only jobs that this worker (name or ID) runs, or ran when their last attempt failed");
  job.text("--error", flags->error, "TEXT", "only jobs whose last error contains TEXT");
  job.duration("--age", flags->age,
               "only jobs whose last failed attempt ended at least this long ago", "", Millis(1));
  job.integer("--limit", flags->limit, "maximum jobs listed; 100 if not given", "", 1, 10'000'000);
  job.example("millrace-broker job ls --queue mail --state ready,leased");
  job.example("millrace-broker job ls --error 'connection refused' --limit 1000");
  job.example("millrace-broker job show 3f9a1c07-42");
  job.example("millrace-broker job why 3f9a1c07-42 --http 10.0.0.1:5580");
}

}  // namespace millrace::admin
