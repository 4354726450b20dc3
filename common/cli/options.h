// The one way in which all three programs read their options, so that main.cpp reads like a table:
//
//   Options options("millrace-broker", "Store jobs durably and hand them out to workers.");
//   ServeOptions serve;
//   auto& cmd = options.command("serve", "run the broker", [&] { return run_broker(serve); });
//   cmd.duration("--heartbeat", serve.heartbeat, "time between heartbeats", "1s");
//   return options.run(argc, argv);
//
// Shape:   flag > environment MILLRACE_HEARTBEAT > file (--config FILE, TOML) > default. In the
//          file `heartbeat = "1s"` stands at the top or, stronger, in a table [serve]. An empty
//          variable counts as unset. Repeatable flags: a list in the file, lines in the variable.
//          A target with no default is left alone: give it one, or make it std::optional.
//          Secrets in the environment are taken out of it once they have been read (secrets.h).
//          Every command also has --config, --log-level, --help and --version.
// Errors:  usage (64): unknown flag, bad or missing value, with its origin; config (78): unknown
//          key, unreadable file.
// Owns:    nothing; targets and whatever an action refers to must outlive run().
// Threads: one thread
// Source:  CLI11 splits the command line; its own layering of files and environment puts the file
//          before the environment, so the layering is ours.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "common/base/result.h"
#include "common/cli/command.h"
#include "common/os/log.h"

namespace millrace {

using Environment = std::function<const char*(const char* name)>;

class Options {
 public:
  Options(std::string program, std::string summary);

  // The reference stays valid as long as this object.
  Command& command(std::string name, std::string summary, Action action);

  const std::string& program() const { return program_; }

  // What a command line asks for: a command, whose targets have been set, or a text (--help).
  struct Request {
    const Command* command = nullptr;
    std::string text;
  };
  Result<Request> parse(const Texts& arguments, const Environment& environment);

  // All of main(): parses, starts the log, acts, reports; returns the exit code.
  int run(int argc, char** argv);

 private:
  std::string program_;
  std::string summary_;
  std::deque<Command> commands_;
  LogLevel log_level_ = LogLevel::info;
  std::string config_path_;
};

}  // namespace millrace
