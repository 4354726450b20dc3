#include <fmt/format.h>

#include <optional>

#include "broker/admin/operation.h"
#include "broker/cli/command_parts.h"
#include "broker/cli/operation_commands.h"
#include "broker/cli/status_text.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

struct DeadFlags : Common {
  std::string queue, error;
  std::optional<Millis> older;
  bool all = false, no_wait = false;
};

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
  if (!flags.name.empty() && !parse_job_name(flags.name)) return not_a_job_id(flags.name);
  if (flags.older && flags.older->count() == 0)
    return usage("--older 0s selects every dead job: use --all instead");
  return ask_for_many(flags, flags.no_wait, "/v1/dead/" + flags.action, body,
                      flags.action == "retry" ? "retried" : "dropped");
}

}  // namespace

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

}  // namespace millrace::admin
