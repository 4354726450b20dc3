// What the commands that ask a running broker have in common: their flags, one request and its
// answer, and an operation that is waited for.
// Shape:   --json prints the broker's object as it came, else Question::say makes text of it
// Errors:  those of broker_client.h; usage (64) for an action that there is not
// Threads: one
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "broker/cli/broker_client.h"
#include "common/cli/options.h"

namespace millrace::admin {

inline constexpr auto kReplaceInvalid = nlohmann::json::error_handler_t::replace;
inline constexpr const char* kNoWait =
    "print the ID of the operation instead of waiting for its completion";

struct Common {
  AdminOptions broker;
  bool json = false;
  std::string action, name;
};

// One request, and how its answer is said to people.
struct Question {
  std::string method, target;
  nlohmann::json body = nullptr;
  std::function<std::string(const nlohmann::json&)> say;
};
Result<ExitCode> ask(const Common& flags, const Question& question);

// What concerns many jobs may take long: then the broker answers with an operation's ID, and this
// waits for its end, or with no_wait prints the ID. `done` is what becomes of the jobs: "purged".
Result<ExitCode> ask_for_many(const Common& flags, bool no_wait, std::string target,
                              const nlohmann::json& body, const char* done);

Error usage(std::string message);
Error unknown_action(const char* command, const std::string& action, const char* known);
Error not_a_job_id(const std::string& name);

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

}  // namespace millrace::admin
