#include "broker/cli/command_parts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <thread>

#include "broker/cli/text_table.h"
#include "common/base/terminal_text.h"

namespace millrace::admin {
namespace {

using nlohmann::json;

constexpr Millis kPollInterval{200}, kProgressInterval{1000};

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

}  // namespace

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

Error not_a_job_id(const std::string& name) {
  return usage(fmt::format("'{}' is not a job ID; a job ID looks like 3f9a1c07-42", name));
}
}  // namespace millrace::admin
