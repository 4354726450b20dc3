// The flags and arguments of one command, declared as a table; see common/cli/options.h for their
// use.
// Shape:   each is a name, a form and a help text for --help, a default, and what takes its texts
// Errors:  a default that doesn't parse is a bug and aborts
// Owns:    nothing; targets, and whatever the action refers to, must outlive the command
// Threads: one thread
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/base/units.h"

namespace millrace {

using Texts = std::vector<std::string>;
// What a command does. Its error is printed as "PROGRAM: MESSAGE", and its code is the exit code.
using Action = std::function<Result<ExitCode>()>;

// A flag or argument: how it looks in --help, and what takes its texts.
struct OptionSpec {
  enum class Kind { value, list, toggle, argument };
  Kind kind;
  std::string name;  // "--heartbeat", or "PAYLOAD" of an argument
  std::string form;  // what stands for the value in --help: "DURATION"
  std::string help;
  std::string fallback;
  std::function<Result<void>(const Texts&)> set;
  bool required = false;
  bool command_line_only = false;
  std::string short_name;  // of a toggle, on the command line: "-0"; or empty
  std::string group;       // heading in --help
};

// The group of --config and --log-level, which --help shows last.
constexpr std::string_view kGeneralGroup = "General";

class Command {
 public:
  Command(std::string name, std::string summary, Action action);

  // `parse` is called with a string_view and returns Result<T>; a T must be assignable to the
  // target, so std::optional<T> will do. Its error quotes the text and shows the accepted form.
  template <typename Target, typename Parse>
  void value(std::string flag, Target& target, Parse parse, std::string form, std::string help,
             std::string fallback = "") {
    add({OptionSpec::Kind::value, std::move(flag), std::move(form), std::move(help),
         std::move(fallback), [&target, parse](const Texts& texts) {
           return assign(target, parse(std::string_view(texts.back())));
         }});
  }

  // A flag that may be given several times.
  template <typename T, typename Parse>
  void list(std::string flag, std::vector<T>& target, Parse parse, std::string form,
            std::string help) {
    add({OptionSpec::Kind::list, std::move(flag), std::move(form), std::move(help), "",
         [&target, parse](const Texts& texts) -> Result<void> {
           target.clear();
           for (const std::string& text : texts) {
             if (auto added = assign(target.emplace_back(), parse(std::string_view(text))); !added)
               return added;
           }
           return {};
         }});
  }

  template <typename Target>
  void text(std::string flag, Target& target, std::string form, std::string help,
            std::string fallback = "") {
    value(std::move(flag), target, not_empty, std::move(form), std::move(help),
          std::move(fallback));
  }

  template <typename Target>
  void duration(std::string flag, Target& target, std::string help, std::string fallback = "",
                Millis min = Millis(0)) {
    auto parse = [min](std::string_view text) { return parse_duration(text, min); };
    value(std::move(flag), target, parse, "DURATION", std::move(help), std::move(fallback));
  }

  template <typename Target>
  void size(std::string flag, Target& target, std::string help, std::string fallback = "",
            int64_t min = 0, int64_t max = std::numeric_limits<int64_t>::max()) {
    auto parse = [min, max](std::string_view text) { return parse_size(text, min, max); };
    value(std::move(flag), target, parse, "SIZE", std::move(help), std::move(fallback));
  }

  template <typename Target>
  void integer(std::string flag, Target& target, std::string help, std::string fallback = "",
               int64_t min = 0, int64_t max = std::numeric_limits<int32_t>::max()) {
    auto parse = [min, max](std::string_view text) { return parse_integer(text, min, max); };
    value(std::move(flag), target, parse, "N", std::move(help), std::move(fallback));
  }

  void texts(std::string flag, Texts& target, std::string form, std::string help);
  void duration_range(std::string flag, MillisRange& target, std::string help,
                      std::string fallback);
  void endpoint(std::string flag, Endpoint& target, std::string help, std::string fallback);
  // HOST[:PORT][,…]
  void endpoints(std::string flag, std::vector<Endpoint>& target, int default_port,
                 std::string help, std::string fallback);
  // False unless given; the file and the environment can say true or false.
  void toggle(std::string flag, bool& target, std::string help, std::string short_name = "");
  // The next positional argument, in the order of declaration; from the command line only.
  template <typename Target>
  void argument(std::string name, Target& target, std::string help) {
    add({OptionSpec::Kind::argument, name, name, std::move(help), "",
         [&target](const Texts& texts) { return assign(target, as_is(texts.back())); }});
  }
  // Without a value from anywhere, the flag or argument declared before is a usage error.
  void require(std::string_view name);
  // What is declared from here on comes from the command line only: flags that say what to change,
  // where a variable that is meant for another command would do harm.
  void only_from_command_line() { command_line_only_ = true; }
  // What is declared from here on stands under this heading in --help: "Connection".
  void group(std::string name) { group_ = std::move(name); }
  // What follows the command's name in the first line of --help; by default its arguments.
  void synopsis(std::string text) { synopsis_ = std::move(text); }
  // A command line for the end of --help; single quotes keep words together.
  void example(std::string command_line) { examples_.push_back(std::move(command_line)); }

  const std::string& name() const { return name_; }
  const std::string& summary() const { return summary_; }
  const std::vector<OptionSpec>& specs() const { return specs_; }
  const std::string& synopsis() const { return synopsis_; }
  const Texts& examples() const { return examples_; }
  Result<ExitCode> act() const { return action_(); }

 private:
  static Result<std::string> as_is(std::string_view text) { return std::string(text); }
  // An empty value is a variable that somebody forgot to set: to take it for none would leave out
  // what was asked for, a token for example.
  static Result<std::string> not_empty(std::string_view text);

  template <typename Target, typename T>
  static Result<void> assign(Target& target, Result<T> parsed) {
    if (!parsed) return parsed.error();
    target = *std::move(parsed);
    return {};
  }

  void add(OptionSpec spec);

  std::string name_;
  std::string summary_;
  Action action_;
  std::vector<OptionSpec> specs_;
  bool command_line_only_ = false;
  std::string group_{kGeneralGroup};
  std::string synopsis_;
  Texts examples_;
};

}  // namespace millrace
