#include "broker/cli/operation_commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <thread>

#include "broker/admin/operation.h"
#include "broker/cli/broker_client.h"
#include "broker/cli/status_text.h"
#include "broker/cli/text_table.h"
#include "common/base/terminal_text.h"
#include "common/protocol/queue_name.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

constexpr auto kReplaceInvalid = json::error_handler_t::replace;
constexpr const char* kNoWait =
    "print the ID of the operation instead of waiting for its completion";
constexpr Millis kPollInterval{200}, kProgressInterval{1000};

struct Common {
  AdminOptions broker;
  bool json = false;
  std::string action, name;
};

struct QueueFlags : Common {
  bool no_wait = false;
  std::optional<int64_t> weight, concurrency, rate, max_length, max_attempts;
  std::optional<std::string> order;
  std::optional<MillisRange> backoff;
  std::optional<Millis> lease, ttl;
};

struct DeadFlags : Common {
  std::string queue, error;
  std::optional<Millis> older;
  bool all = false, no_wait = false;
};

// One request, and how its answer is said to people.
struct Question {
  std::string method, target;
  json body = nullptr;
  std::function<std::string(const json&)> say;
};

Result<ExitCode> ask(const Common& flags, const Question& question) {
  auto reply = ask_broker(
      flags.broker, question.method, question.target,
      question.body.is_null() ? "" : question.body.dump(-1, ' ', false, kReplaceInvalid));
  if (!reply) return reply.error();
  try {
    fmt::print("{}", flags.json ? terminal_json(reply->text) : question.say(reply->json));
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, question.target);
  }
  return ExitCode::ok;
}

std::string counted(uint64_t n, const char* done) {
  return fmt::format("{} job{} {}\n", n, n == 1 ? "" : "s", done);
}

// Polls until it is done; the answer is then as if it had come at once.
Result<json> wait_for_operation(const Common& flags, const std::string& id, const char* done) {
  const bool terminal = isatty(STDERR_FILENO);
  Mono next_line = Mono::clock::now() + kProgressInterval;
  for (std::string shown;;) {
    auto reply = ask_broker(flags.broker, "GET", "/v1/operations/" + id);
    if (!reply && reply.error().code != ExitCode::temporary)
      return Error{reply.error().code,
                   fmt::format("{}; the jobs that operation {} had {} until then stay {}",
                               reply.error().message, id, done, done)};
    if (reply && reply->json.at("state") == "done") {
      if (!shown.empty() && terminal) fmt::print(stderr, "\n");
      json answer{{done, reply->json.at("done")}};
      if (reply->json.contains("queue")) answer["queue"] = reply->json.at("queue");
      return answer;
    }
    if (reply && Mono::clock::now() >= next_line) {
      shown = fmt::format("operation {}: {} {}, {} of {} examined", id, count(reply->json, "done"),
                          done, count(reply->json, "examined"), count(reply->json, "total"));
      fmt::print(stderr, "{}{}{}", terminal ? "\r" : "", shown, terminal ? "" : "\n");
      next_line += kProgressInterval;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

// What concerns many jobs may take long: then the broker answers with an operation's ID.
Result<ExitCode> ask_for_many(const Common& flags, bool no_wait, std::string target,
                              const json& body, const char* done) {
  if (no_wait) target += "?wait=0";
  auto reply = ask_broker(flags.broker, "POST", target,
                          body.is_null() ? "" : body.dump(-1, ' ', false, kReplaceInvalid));
  if (!reply) return reply.error();
  try {
    if (no_wait) {
      fmt::print("{}", flags.json ? terminal_json(reply->text) : text(reply->json, "id") + "\n");
      return ExitCode::ok;
    }
    json answer = reply->json;
    if (reply->status == 202) {
      auto ended = wait_for_operation(flags, text(reply->json, "id"), done);
      if (!ended) return ended.error();
      answer = *std::move(ended);
    }
    fmt::print("{}", flags.json ? terminal_json(answer.dump()) + "\n"
                                : counted(answer.at(done).get<uint64_t>(), done));
  } catch (const json::exception&) {
    return not_a_broker(flags.broker, target);
  }
  return ExitCode::ok;
}

Error usage(std::string message) { return {ExitCode::usage, std::move(message)}; }

Error unknown_action(const char* command, const std::string& action, const char* known) {
  if (action.empty()) return usage(fmt::format("{} needs an action: {}", command, known));
  return usage(fmt::format("unknown action '{}': {} takes {}", action, command, known));
}

// ---- job

Result<ExitCode> run_job(const Common& flags) {
  const bool cancel = flags.action == "cancel";
  if (!cancel && flags.action != "show" && flags.action != "why")
    return unknown_action("job", flags.action, "show, why or cancel, and an ID");
  if (!parse_job_name(flags.name))
    return usage(
        flags.name.empty()
            ? fmt::format("job {} needs a job ID, for example 3f9a1c07-42", flags.action)
            : fmt::format("'{}' is not a job ID; a job ID looks like 3f9a1c07-42", flags.name));
  const std::string target = "/v1/jobs/" + flags.name;
  if (!cancel)
    return ask(flags, {"GET", target, nullptr, flags.action == "why" ? why_text : job_text});
  return ask(flags, {"POST", target + "/cancel", nullptr, [](const json& answer) {
                       return fmt::format(
                           "{} {}\n", text(answer, "id"),
                           answer.at("cancelled") == 0 ? "was already cancelled" : "is cancelled");
                     }});
}

// ---- queue

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

// ---- dead

Result<ExitCode> run_dead(const DeadFlags& flags) {
  json body = json::object();
  if (!flags.name.empty()) body["id"] = flags.name;
  if (!flags.queue.empty()) body["queue"] = flags.queue;
  if (!flags.error.empty()) body["error"] = flags.error;
  if (flags.older) body["older_ms"] = flags.older->count();
  if (flags.all) body["all"] = true;
  if (flags.action.empty() || flags.action == "ls") {
    if (flags.no_wait) return usage("--no-wait applies to dead retry and dead drop only");
    if (!body.empty()) return usage("dead ls takes no filter: it lists the newest dead jobs");
    return ask(flags, {"GET", "/v1/dead", nullptr, dead_text});
  }
  if (flags.action != "retry" && flags.action != "drop")
    return unknown_action("dead", flags.action, "ls, retry or drop");
  if (body.empty())
    return usage(
        fmt::format("dead {} needs a job ID, --queue, --error, --older or --all", flags.action));
  if (flags.all && body.size() > 1)
    return usage("--all selects every dead job: omit it, or omit the other filters");
  if (!flags.name.empty() && !parse_job_name(flags.name))
    return usage(fmt::format("'{}' is not a job ID; a job ID looks like 3f9a1c07-42", flags.name));
  if (flags.older && flags.older->count() == 0)
    return usage("--older 0s selects every dead job: use --all instead");
  return ask_for_many(flags, flags.no_wait, "/v1/dead/" + flags.action, body,
                      flags.action == "retry" ? "retried" : "dropped");
}

// The action keeps what its flags fill.
template <typename Flags>
Command& add_command(Options& options, const char* name, const char* summary,
                     const std::shared_ptr<Flags>& flags, Result<ExitCode> (*run)(const Flags&)) {
  Command& command = options.command(name, summary, [flags, run] { return run(*flags); });
  add_http_flags(command, flags->broker);
  command.group("Output");
  command.toggle("--json", flags->json, "print the JSON object that the broker returns");
  command.only_from_command_line();
  return command;
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

void add_dead_command(Options& options) {
  auto flags = std::make_shared<DeadFlags>();
  Command& command =
      add_command(options, "dead", "List dead jobs; retry or drop them", flags, run_dead);
  command.synopsis("[ls|retry|drop] [ID] [OPTIONS]");
  command.argument("ACTION", flags->action,
                   "ls (the default): list the newest; retry: queue them again; drop: delete them");
  command.argument("ID", flags->name, "job ID, for example 3f9a1c07-42");
  command.toggle("--no-wait", flags->no_wait, kNoWait);
  command.group("Filter (for retry and drop)");
  command.text("--queue", flags->queue, "NAME", "only jobs of this queue");
  command.text("--error", flags->error, "TEXT", "only jobs whose last error contains TEXT");
  command.duration("--older", flags->older,
                   "only jobs whose last attempt ended at least this long ago");
  command.toggle("--all", flags->all, "all dead jobs");
  command.example("millrace-broker dead");
  command.example("millrace-broker dead retry --queue mail --error 'connection refused'");
  command.example("millrace-broker dead drop --older 168h");
}

}  // namespace

void add_operation_commands(Options& options) {
  auto flags = std::make_shared<Common>();
  Command& job =
      add_command(options, "job", "Show a job, explain why it waits, or cancel it", flags, run_job);
  job.synopsis("show|why|cancel ID [OPTIONS]");
  job.argument("ACTION", flags->action,
               "show: print the job; why: explain why it waits; cancel: cancel it");
  job.argument("ID", flags->name, "job ID, for example 3f9a1c07-42");
  job.example("millrace-broker job show 3f9a1c07-42");
  job.example("millrace-broker job why 3f9a1c07-42 --http 10.0.0.1:5580");
  add_queue_command(options);
  add_dead_command(options);
}

}  // namespace millrace::admin
