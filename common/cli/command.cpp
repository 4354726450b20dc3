#include "common/cli/command.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/check.h"

namespace millrace {

Command::Command(std::string name, std::string summary, Action action)
    : name_(std::move(name)), summary_(std::move(summary)), action_(std::move(action)) {}

void Command::texts(std::string flag, Texts& target, std::string form, std::string help) {
  list(std::move(flag), target, not_empty, std::move(form), std::move(help));
}

Result<std::string> Command::not_empty(std::string_view text) {
  if (!text.empty()) return std::string(text);
  return Error{ExitCode::usage, "is empty: give it a value, or leave it out"};
}

void Command::duration_range(std::string flag, MillisRange& target, std::string help,
                             std::string fallback) {
  value(std::move(flag), target, parse_duration_range, "MIN..MAX", std::move(help),
        std::move(fallback));
}

void Command::endpoint(std::string flag, Endpoint& target, std::string help, std::string fallback) {
  auto parse = [](std::string_view text) { return parse_endpoint(text); };
  value(std::move(flag), target, parse, "HOST:PORT", std::move(help), std::move(fallback));
}

void Command::endpoints(std::string flag, std::vector<Endpoint>& target, int default_port,
                        std::string help, std::string fallback) {
  auto set = [&target, default_port](const Texts& texts) {
    return assign(target, parse_endpoints(fmt::format("{}", fmt::join(texts, ",")), default_port));
  };
  add({OptionSpec::Kind::list, std::move(flag), fmt::format("HOST[:{}][,...]", default_port),
       std::move(help), std::move(fallback), set});
}

void Command::toggle(std::string flag, bool& target, std::string help, std::string short_name) {
  target = false;
  add({OptionSpec::Kind::toggle, std::move(flag), "", std::move(help), "",
       [&target](const Texts& texts) { return assign(target, parse_bool(texts.back())); }});
  specs_.back().short_name = std::move(short_name);
}

void Command::require(std::string_view name) {
  auto spec = std::find_if(specs_.begin(), specs_.end(),
                           [&](const OptionSpec& candidate) { return candidate.name == name; });
  MILLRACE_CHECK(spec != specs_.end());
  spec->required = true;
}

void Command::add(OptionSpec spec) {
  MILLRACE_CHECK((spec.kind == OptionSpec::Kind::argument) != spec.name.starts_with("--"));
  MILLRACE_CHECK(!spec.help.empty());
  if (!spec.fallback.empty()) {
    auto done = spec.set({spec.fallback});
    MILLRACE_CHECK(done.ok());
  }
  spec.command_line_only = command_line_only_;
  spec.group = group_;
  specs_.push_back(std::move(spec));
}

}  // namespace millrace
