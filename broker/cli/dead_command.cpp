#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "broker/admin/operation.h"
#include "broker/cli/command_parts.h"
#include "broker/cli/job_text.h"
#include "broker/cli/operation_commands.h"
#include "broker/cli/text_table.h"
#include "common/base/terminal_text.h"
#include "common/http/query.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

struct DeadFlags : Common {
  std::string queue, error, worker, group;
  std::optional<Millis> older;
  std::optional<int64_t> limit;
  bool all = false, no_wait = false, dry_run = false, yes = false;
};

constexpr int64_t kDefaultLimit = 100;

std::string target_of(const DeadFlags& flags, bool grouped, size_t limit,
                      const std::string& cursor) {
  http::QueryPairs pairs;
  auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) pairs.emplace_back(name, value);
  };
  add("queue", flags.queue);
  add("error", flags.error);
  add("worker", flags.worker);
  if (flags.older) add("age", format_duration(*flags.older));
  if (grouped) add("group", "error");
  add("limit", std::to_string(limit));
  add("cursor", cursor);
  return "/v1/dead?" + http::format_query(pairs);
}

// Page by page, up to so many; what the pages count is added up.
Result<json> ask_for_dead(const DeadFlags& flags, size_t most) {
  json listed;
  for (std::string cursor;;) {
    const size_t have = listed.is_null() ? 0 : listed.at("dead").size();
    auto page = ask_broker(
        flags.broker, "GET",
        target_of(flags, false, std::min<size_t>(most - have, ListJobs::kMaxLimit), cursor));
    if (!page) return page.error();
    if (listed.is_null()) {
      listed = std::move(page->json);
    } else {
      for (json& job : page->json.at("dead")) listed["dead"].push_back(std::move(job));
      listed["next"] = page->json.at("next");
    }
    if (listed.at("next").is_null() || listed.at("dead").size() >= most) return listed;
    cursor = listed.at("next").get<std::string>();
  }
}

void add_groups(json* sums, const json& page) {
  for (const char* key : {"matched", "other", "examined"})
    (*sums)[key] = sums->at(key).get<uint64_t>() + page.at(key).get<uint64_t>();
  for (const json& group : page.at("groups")) {
    auto& groups = sums->at("groups");
    auto known = std::find_if(groups.begin(), groups.end(), [&](const json& each) {
      return each.at("error") == group.at("error");
    });
    if (known == groups.end()) {
      groups.push_back(group);
      continue;
    }
    (*known)["jobs"] = known->at("jobs").get<uint64_t>() + group.at("jobs").get<uint64_t>();
    if (group.at("newest_ms") > known->at("newest_ms"))
      (*known)["newest"] = group.at("newest"), (*known)["newest_ms"] = group.at("newest_ms");
  }
}

// The most frequent error first.
Result<json> ask_for_groups(const DeadFlags& flags) {
  json sums{{"groups", json::array()}, {"matched", 0}, {"other", 0}, {"examined", 0}};
  for (std::string cursor;;) {
    auto page = ask_broker(flags.broker, "GET", target_of(flags, true, 1, cursor));
    if (!page) return page.error();
    add_groups(&sums, page->json);
    sums["count"] = page->json.at("count");
    if (page->json.at("next").is_null()) break;
    cursor = page->json.at("next").get<std::string>();
  }
  auto& groups = sums["groups"];
  std::stable_sort(groups.begin(), groups.end(), [](const json& a, const json& b) {
    return a.at("jobs").get<uint64_t>() > b.at("jobs").get<uint64_t>();
  });
  return sums;
}

Result<ExitCode> list_dead(const DeadFlags& flags) {
  if (flags.no_wait || flags.dry_run || flags.yes)
    return usage("--no-wait, --dry-run and --yes apply to dead retry and dead drop only");
  if (!flags.name.empty())
    return usage(fmt::format("dead ls takes no ID; use 'job show {}'", flags.name));
  if (!flags.group.empty() && flags.group != "error")
    return usage(fmt::format("--group-by takes error, not '{}'", flags.group));
  try {
    auto listed = flags.group.empty()
                      ? ask_for_dead(flags, size_t(flags.limit.value_or(kDefaultLimit)))
                      : ask_for_groups(flags);
    if (!listed) return listed.error();
    fmt::print("{}", flags.json
                         ? terminal_json(listed->dump(-1, ' ', false, kReplaceInvalid)) + "\n"
                     : flags.group.empty() ? dead_text(*listed)
                                           : dead_groups_text(*listed));
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, "/v1/dead");
  }
  return ExitCode::ok;
}

Result<uint64_t> count_dead(const DeadFlags& flags) {
  try {
    auto sums = ask_for_groups(flags);
    if (!sums) return sums.error();
    return sums->at("matched").get<uint64_t>();
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, "/v1/dead");
  }
}

// On a terminal, before many jobs are changed.
bool is_confirmed(const DeadFlags& flags, uint64_t jobs) {
  fmt::print(stderr, "{} {} dead job{}? [y/N] ", flags.action, grouped(jobs), jobs == 1 ? "" : "s");
  std::fflush(stderr);
  const int answer = std::getchar();
  return answer == 'y' || answer == 'Y';
}

Result<ExitCode> change_dead(const DeadFlags& flags, const json& body) {
  const bool retry = flags.action == "retry";
  const bool asks = flags.name.empty() && !flags.yes && !flags.no_wait && isatty(STDIN_FILENO) &&
                    isatty(STDERR_FILENO);
  if (flags.dry_run || asks) {
    auto jobs = count_dead(flags);
    if (!jobs) return jobs.error();
    if (flags.dry_run) {
      fmt::print("{}", flags.json
                           ? fmt::format("{{\"would_change\":{}}}\n", *jobs)
                           : fmt::format("{} dead job{} would be {}\n", grouped(*jobs),
                                         *jobs == 1 ? "" : "s", retry ? "retried" : "dropped"));
      return ExitCode::ok;
    }
    if (!is_confirmed(flags, *jobs)) return Error{ExitCode::failed, "nothing was changed"};
  }
  return ask_for_many(flags, flags.no_wait, "/v1/dead/" + flags.action, body,
                      retry ? "retried" : "dropped");
}

Result<ExitCode> run_dead(const DeadFlags& flags) {
  if (flags.action.empty() || flags.action == "ls") return list_dead(flags);
  if (flags.action != "retry" && flags.action != "drop")
    return unknown_action("dead", flags.action, "ls, retry or drop");
  if (flags.limit || !flags.group.empty() || !flags.worker.empty())
    return usage("--limit, --group-by and --worker apply to dead ls only");
  json body = json::object();
  if (!flags.name.empty()) body["id"] = flags.name;
  if (!flags.queue.empty()) body["queue"] = flags.queue;
  if (!flags.error.empty()) body["error"] = flags.error;
  if (flags.older) body["older_ms"] = flags.older->count();
  if (flags.all) body["all"] = true;
  if (body.empty())
    return usage(
        fmt::format("dead {} needs a job ID, --queue, --error, --older or --all", flags.action));
  if (flags.all && body.size() > 1)
    return usage("--all selects every dead job: omit it, or omit the other filters");
  if (!flags.name.empty() && !parse_job_name(flags.name)) return not_a_job_id(flags.name);
  if (!flags.name.empty() && flags.dry_run)
    return usage("--dry-run counts the jobs that a filter selects; an ID selects one");
  if (flags.older && flags.older->count() == 0)
    return usage("--older 0s selects every dead job: use --all instead");
  return change_dead(flags, body);
}

}  // namespace

void add_dead_command(Options& options) {
  auto flags = std::make_shared<DeadFlags>();
  Command& command =
      add_command(options, "dead", "List dead jobs; retry or drop them", flags, run_dead);
  command.synopsis("[ls|retry|drop] [ID] [OPTIONS]");
  command.argument(
      "ACTION", flags->action,
      "ls (the default): list them, newest first; retry: queue them again; drop: delete them");
  command.argument("ID", flags->name, "job ID, for example 3f9a1c07-42");
  command.toggle("--no-wait", flags->no_wait, kNoWait);
  command.toggle("--dry-run", flags->dry_run, "print how many jobs retry or drop would change");
  command.toggle("--yes", flags->yes, "do not ask for confirmation on a terminal");
  command.text("--group-by", flags->group, "error",
               "with ls: print the errors, without numbers, and how many jobs died of each");
  command.integer("--limit", flags->limit, "with ls: maximum jobs listed; 100 if not given", "", 1,
                  10'000'000);
  command.group("Filter");
  command.text("--queue", flags->queue, "NAME", "only jobs of this queue");
  command.text("--error", flags->error, "TEXT", "only jobs whose last error contains TEXT");
  command.text("--worker", flags->worker, "NAME",
               "with ls: only jobs whose last attempt ran there");
  command.duration("--older", flags->older,
                   "only jobs whose last attempt ended at least this long ago");
  command.toggle("--all", flags->all, "all dead jobs");
  command.example("millrace-broker dead --group-by error");
  command.example("millrace-broker dead retry --queue mail --error 'connection refused'");
  command.example("millrace-broker dead drop --older 168h");
}

}  // namespace millrace::admin
