#include "broker/cli/operation_commands.h"

#include <fmt/format.h>

#include <optional>

#include "broker/cli/command_parts.h"
#include "broker/cli/status_text.h"
#include "broker/cli/text_table.h"
#include "common/base/terminal_text.h"
#include "common/protocol/queue_name.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

struct QueueFlags : Common {
  bool no_wait = false;
  std::optional<int64_t> weight, concurrency, rate, max_length, max_attempts;
  std::optional<std::string> order;
  std::optional<MillisRange> backoff;
  std::optional<Millis> lease, ttl;
};

bool has_others(const json& listed) {
  return listed.contains("other_queues") && listed.at("other_queues").at("queues") != 0;
}

// The queues that an answer only sums up are asked for page by page.
Result<BrokerReply> ask_for_queues(const Common& flags) {
  auto listed = ask_broker(flags.broker, "GET", "/v1/queues");
  if (!listed || !has_others(listed->json)) return listed;
  json all = json::array();
  for (json cursor = 0; !cursor.is_null();) {
    auto page = ask_broker(flags.broker, "GET", "/v1/queues?cursor=" + cursor.dump());
    if (!page) return page;
    for (json& queue : page->json.at("queues")) all.push_back(std::move(queue));
    if (!page->json.contains("next")) return listed;  // an earlier version has no pages
    cursor = page->json.at("next");
  }
  listed->json["queues"] = std::move(all);
  for (json& sum : listed->json["other_queues"]) sum = 0;
  listed->text = listed->json.dump(-1, ' ', false, kReplaceInvalid) + "\n";
  return listed;
}

Result<ExitCode> list_queues(const Common& flags) {
  try {
    auto listed = ask_for_queues(flags);
    if (!listed) return listed.error();
    fmt::print("{}", flags.json ? terminal_json(listed->text) : queues_text(listed->json));
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, "/v1/queues");
  }
  return ExitCode::ok;
}

json changes_of(const QueueFlags& flags) {
  json body = json::object();
  auto add = [&](const char* key, const auto& value) {
    if (value) body[key] = *value;
  };
  auto add_ms = [&](const char* key, const std::optional<Millis>& value) {
    if (value) body[key] = value->count();
  };
  add("weight", flags.weight);
  add("order", flags.order);
  add("concurrency", flags.concurrency);
  add("rate", flags.rate);
  add("max_length", flags.max_length);
  add("max_attempts", flags.max_attempts);
  if (flags.backoff)
    body["backoff_min_ms"] = flags.backoff->min.count(),
    body["backoff_max_ms"] = flags.backoff->max.count();
  add_ms("lease_ms", flags.lease);
  add_ms("ttl_ms", flags.ttl);
  return body;
}

std::string say_settings(const json& answer) {
  return fmt::format("{}: {}\n", text(answer, "name"), settings_words(answer.at("settings")));
}

Result<ExitCode> run_queue(const QueueFlags& flags) {
  const std::string& action = flags.action;
  const json changes = changes_of(flags);
  const bool set = action == "set", list = action == "ls";
  if (!set && !list && action != "pause" && action != "resume" && action != "purge" &&
      action != "delete")
    return unknown_action("queue", action,
                          "ls, or set, pause, resume, purge or delete, and a NAME");
  if (!set && !changes.empty())
    return usage(fmt::format("queue {} takes no settings; only queue set does", action));
  if (flags.no_wait && action != "purge") return usage("--no-wait applies to queue purge only");
  if (list && flags.name.empty()) return list_queues(flags);
  if (!protocol::stored_queue_name(flags.name))
    return usage(flags.name.empty() ? fmt::format("queue {} needs a queue name", action)
                                    : fmt::format("'{}' is not a queue name", flags.name));
  const std::string target = "/v1/queues/" + flags.name;
  if (list)
    return ask(flags, {"GET", target, nullptr, [](const json& queue) {
                         return queues_text({{"queues", json::array({queue})}});
                       }});
  if (action == "delete")
    return ask(flags, {"DELETE", target, nullptr, [](const json& answer) {
                         return fmt::format("{} is deleted\n", text(answer, "name"));
                       }});
  if (set && changes.empty())
    return usage(
        "queue set needs at least one setting, for example --weight 3; see 'millrace-broker queue "
        "--help'");
  if (set) return ask(flags, {"PATCH", target, changes, say_settings});
  if (action != "purge") return ask(flags, {"POST", target + "/" + action, nullptr, say_settings});
  return ask_for_many(flags, flags.no_wait, target + "/purge", nullptr, "purged");
}

Result<std::string> parse_order(std::string_view text) {
  if (text == "fifo" || text == "fair") return std::string(text);
  return usage(fmt::format("'{}' is neither fifo nor fair", text));
}

void add_queue_command(Options& options) {
  auto flags = std::make_shared<QueueFlags>();
  Command& command =
      add_command(options, "queue", "List queues; configure, pause, resume, purge or delete one",
                  flags, run_queue);
  command.synopsis("ls|set|pause|resume|purge|delete [NAME] [OPTIONS]");
  command.argument("ACTION", flags->action,
                   "ls: list; set: change settings; pause, resume: stop and continue handing out "
                   "jobs; purge: cancel its waiting jobs; delete: remove it when empty");
  command.argument("NAME", flags->name, "queue name; ls without a name lists all queues");
  command.toggle("--no-wait", flags->no_wait, kNoWait);
  command.group("Queue settings (for set)");
  command.integer("--weight", flags->weight, "share of the queue among the queues of a worker", "",
                  1, 1000);
  command.value("--order", flags->order, parse_order, "fifo|fair",
                "fifo: in the order of submission; fair: producers are interleaved");
  command.integer("--concurrency", flags->concurrency,
                  "maximum jobs leased at a time over all workers; 0 means no limit", "", 0,
                  1'000'000'000);
  command.integer("--rate", flags->rate, "maximum jobs leased per second; 0 means no limit", "", 0,
                  1'000'000'000);
  command.integer("--max-length", flags->max_length,
                  "maximum unfinished jobs; further submissions are rejected; 0 means no limit", "",
                  0, 1'000'000'000);
  command.integer("--max-attempts", flags->max_attempts,
                  "failed attempts before a job is marked dead; 0 means the default of the broker",
                  "", 0, 255);
  command.value("--backoff", flags->backoff, parse_duration_range, "MIN..MAX",
                "delay before a retry; 0s..0s means the default of the broker");
  command.duration("--lease", flags->lease,
                   "duration of a lease unless the worker extends it; 0s means the default of the "
                   "broker");
  command.duration("--ttl", flags->ttl,
                   "time after which an unfinished job expires; 0s means never");
  command.example("millrace-broker queue ls");
  command.example("millrace-broker queue set mail --concurrency 10 --rate 100");
  command.example("millrace-broker queue pause mail");
}

}  // namespace

void add_operation_commands(Options& options) {
  add_job_command(options);
  add_queue_command(options);
  add_dead_command(options);
}

}  // namespace millrace::admin
