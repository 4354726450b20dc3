#include "common/cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <optional>
#include <system_error>

#include "common/base/terminal_text.h"
#include "common/cli/config_file.h"
#include "common/cli/help.h"
#include "common/cli/suggestion.h"
#include "common/os/descriptors.h"
#include "common/os/process_state.h"
#include "common/os/secrets.h"
#include "common/os/stderr_output.h"

namespace millrace {
namespace {

using Kind = OptionSpec::Kind;

// In which a full pipe may take the error that a command ends with.
constexpr Millis kLastWords{1000};

// In a handler MILLRACE_QUEUE says where the job came from: a program that
// the handler calls must not take it for its own --queue, and feed itself.
const char* environment(const char* name) {
  const bool in_handler = getenv("MILLRACE_JOB_ID") != nullptr;
  return in_handler && std::string_view(name) == "MILLRACE_QUEUE" ? nullptr : getenv(name);
}

// The value of one option, and where it was found: "from MILLRACE_RATE".
struct Found {
  Texts texts;
  std::string origin;
};

// What CLI11 made of the words, before any meaning.
struct CommandLine {
  const Command* command = nullptr;
  std::map<std::string, Texts> given;  // by OptionSpec::name
  std::string text;                    // of --help or --version
};

template <typename... Args>
Error error(ExitCode code, fmt::format_string<Args...> form, Args&&... args) {
  return {code, fmt::format(form, std::forward<Args>(args)...)};
}

Texts lines_of(std::string_view text) {
  Texts lines;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

Texts flags_of(const Command& command) {
  Texts flags{"--help", "--version"};
  for (const OptionSpec& spec : command.specs()) {
    if (spec.kind != Kind::argument) flags.push_back(spec.name);
  }
  return flags;
}

// ---- the command line

void declare(CLI::App& app, const OptionSpec& spec) {
  if (spec.kind == Kind::toggle) {
    app.add_flag(spec.short_name.empty() ? spec.name : spec.short_name + "," + spec.name);
    return;
  }
  CLI::callback_t keep = [](const CLI::results_t&) { return true; };
  auto policy =
      spec.kind == Kind::list ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast;
  // Without extra arguments CLI11 takes a value as it stands, "[1,2]" too, which JSON needs.
  app.add_option(spec.name, keep)
      ->expected(1)
      ->multi_option_policy(policy)
      ->allow_extra_args(false)
      ->type_name(spec.kind == Kind::argument ? "" : spec.form);
}

CLI::App* declare(CLI::App& app, const Command& command) {
  CLI::App* sub = app.add_subcommand(command.name());
  sub->allow_extras();
  sub->set_version_flag("-V,--version", "");
  for (const OptionSpec& spec : command.specs()) declare(*sub, spec);
  return sub;
}

Error unknown_word(const std::string& word, const std::string& who, const Texts& known) {
  std::string name = word.substr(0, word.find('='));
  if (!word.starts_with('-')) {
    return error(ExitCode::usage, "unexpected argument '{}'; see '{} --help'", word, who);
  }
  return error(ExitCode::usage, "unknown flag {}{}; see '{} --help'", name, suggestion(name, known),
               who);
}

Error no_command(const Texts& extras, const std::string& program, const Texts& commands) {
  if (extras.empty()) {
    return error(ExitCode::usage, "a command is required: {}; see '{} --help'",
                 fmt::join(commands, ", "), program);
  }
  if (extras[0].starts_with('-')) return unknown_word(extras[0], program, {"--help", "--version"});
  return error(ExitCode::usage, "unknown command '{}'{}; see '{} --help'", extras[0],
               suggestion(extras[0], commands), program);
}

// To CLI11 the word "++" ends a subcommand and vanishes, but to us it is as good a payload as any.
// No word of a command line holds a NUL byte, so with one behind it is safe and unmistakable.
Texts hide_plus(Texts words) {
  for (std::string& word : words) {
    if (word == "++") word += '\0';
  }
  return words;
}

Texts show_plus(Texts words) {
  for (std::string& word : words) {
    if (word.ends_with('\0')) word.pop_back();
  }
  return words;
}

// "help" and "help COMMAND", as git has them.
Texts without_help_command(Texts words) {
  if (words.empty() || words[0] != "help") return words;
  words.erase(words.begin());
  words.resize(std::min<size_t>(words.size(), 1));
  words.emplace_back("--help");
  return words;
}

// The words that CLI11 had no use for.
Texts extras_of(const CLI::App& app) {
  Texts extras = show_plus(app.remaining());
  std::erase(extras, "--");
  return extras;
}

CommandLine collect(const CLI::App& sub, const Command& command) {
  CommandLine line{&command, {}, ""};
  for (const OptionSpec& spec : command.specs()) {
    const CLI::Option* option = sub.get_option(spec.name);
    if (option->count() == 0) continue;
    // Of a flag that is given twice the last counts, so that a script can append its own.
    const Texts texts = show_plus(option->results());
    line.given[spec.name] = spec.kind == Kind::list ? texts : Texts{texts.back()};
  }
  return line;
}

Result<CommandLine> split(const Texts& arguments, const std::string& program,
                          const std::string& summary, const std::deque<Command>& commands,
                          int width) {
  CLI::App app("", program);
  app.require_subcommand(0, 1);
  app.allow_extras();
  app.set_version_flag("-V,--version", "");
  std::map<const CLI::App*, const Command*> subs;
  Texts names;
  for (const Command& command : commands) {
    subs[declare(app, command)] = &command;
    names.push_back(command.name());
  }
  std::string who = program;
  Texts words = hide_plus(without_help_command(arguments));
  const std::string first = words.empty() ? "" : words[0];
  try {
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    if (chosen.empty() && !first.starts_with('-')) return no_command({first}, program, names);
    return CommandLine{nullptr,
                       {},
                       chosen.empty() ? program_help(program, summary, commands, width)
                                      : command_help(program, *subs.at(chosen.front()), width)};
  } catch (const CLI::CallForVersion&) {
    return CommandLine{nullptr, {}, fmt::format("{} {}\n", program, MILLRACE_VERSION)};
  } catch (const CLI::ParseError& problem) {
    for (const CLI::App* sub : app.get_subcommands()) who += " " + sub->get_name();
    return error(ExitCode::usage, "{}; see '{} --help'", problem.what(), who);
  }
  Texts extras = extras_of(app);
  if (app.get_subcommands().empty() || !extras.empty()) return no_command(extras, program, names);
  const CLI::App* sub = app.get_subcommands().front();
  const Command& command = *subs.at(sub);
  who += " " + command.name();
  if (extras = extras_of(*sub); !extras.empty()) {
    return unknown_word(extras[0], who, flags_of(command));
  }
  return collect(*sub, command);
}

// ---- the layers

std::optional<Found> from_environment(const OptionSpec& spec, const Environment& environment) {
  if (!in_environment(spec)) return std::nullopt;
  std::string name = variable_of(spec.name);
  const char* text = environment(name.c_str());
  if (!text || !*text) return std::nullopt;
  return Found{spec.kind == Kind::list ? lines_of(text) : Texts{text}, "from " + name};
}

// A value in the command's table is stronger than one at the top.
std::optional<Found> from_file(const OptionSpec& spec, const Command& command,
                               const std::vector<ConfigEntry>& entries) {
  if (!in_file(spec)) return std::nullopt;
  const ConfigEntry* found = nullptr;
  for (const ConfigEntry& entry : entries) {
    if (entry.key != key_of(spec)) continue;
    if (entry.table == command.name() || (entry.table.empty() && !found)) found = &entry;
  }
  if (!found) return std::nullopt;
  return Found{found->texts, fmt::format("from '{}' at {}", found->key, found->place)};
}

std::optional<Found> find(const OptionSpec& spec, const CommandLine& line,
                          const Environment& environment, const std::vector<ConfigEntry>& entries) {
  if (auto given = line.given.find(spec.name); given != line.given.end()) {
    return Found{given->second, "from the command line"};
  }
  if (auto found = from_environment(spec, environment)) return found;
  return from_file(spec, *line.command, entries);
}

Result<void> set(const OptionSpec& spec, const Found& found) {
  if (spec.kind != Kind::list && found.texts.size() != 1) {
    return error(ExitCode::usage, "bad value for {} ({}): expected one value, not a list of {}",
                 spec.name, found.origin, found.texts.size());
  }
  auto done = spec.set(found.texts);
  if (done) return done;
  return error(ExitCode::usage, "bad value for {} ({}): {}", spec.name, found.origin,
               done.error().message);
}

// The keys that a table, or the top of the file with an empty table, may hold.
Texts allowed_keys(const std::deque<Command>& commands, const std::string& table) {
  Texts keys;
  for (const Command& command : commands) {
    if (!table.empty() && command.name() != table) continue;
    for (const OptionSpec& spec : command.specs()) {
      if (in_file(spec)) keys.emplace_back(key_of(spec));
    }
  }
  return keys;
}

Result<void> check_keys(const std::vector<ConfigEntry>& entries,
                        const std::deque<Command>& commands, const std::string& program) {
  for (const ConfigEntry& entry : entries) {
    bool header = entry.key.empty();
    Texts allowed;
    if (header) {
      for (const Command& command : commands) allowed.push_back(command.name());
    } else {
      allowed = allowed_keys(commands, entry.table);
    }
    const std::string& name = header ? entry.table : entry.key;
    if (std::find(allowed.begin(), allowed.end(), name) != allowed.end()) continue;
    return error(ExitCode::config,
                 "{}: unknown {} '{}'{}; keys are the flags of {}{}{}, without "
                 "the dashes, and tables its commands",
                 entry.place, header ? "table" : "key", name, suggestion(name, allowed), program,
                 entry.table.empty() || header ? "" : " ", header ? "" : entry.table);
  }
  return {};
}

Result<void> check_file_limit() {
  const uint64_t limit = raise_descriptor_limit();
  if (limit >= kLeastDescriptors) return {};
  return error(ExitCode::config,
               "the limit of open files is {}, and at least {} are needed: raise it with 'ulimit "
               "-n'",
               limit, kLeastDescriptors);
}

}  // namespace

Options::Options(std::string program, std::string summary)
    : program_(std::move(program)), summary_(std::move(summary)) {}

Command& Options::command(std::string name, std::string summary, Action action) {
  Command& command = commands_.emplace_back(std::move(name), std::move(summary), std::move(action));
  command.text("--config", config_path_, "FILE", "TOML file with options");
  command.value("--log-level", log_level_, parse_log_level, "LEVEL",
                "minimum log level: debug, info, warning or error", "info");
  return command;
}

Result<Options::Request> Options::parse(const Texts& arguments, const Environment& environment) {
  auto line = split(arguments, program_, summary_, commands_, help_width(environment("COLUMNS")));
  if (!line) return line.error();
  if (!line->command) return Request{nullptr, line->text};

  std::vector<ConfigEntry> entries;
  for (const OptionSpec& spec : line->command->specs()) {
    // --config is the first option of every command, so its file is there for all the others.
    if (auto found = find(spec, *line, environment, entries)) {
      if (auto done = set(spec, *found); !done) return done.error();
    } else if (spec.required) {
      return error(ExitCode::usage, "{} is required: {}; see '{} {} --help'", spec.name, spec.help,
                   program_, line->command->name());
    }
    if (spec.name != "--config" || config_path_.empty()) continue;
    auto file = read_config_file(config_path_);
    if (!file) return file.error();
    if (auto known = check_keys(*file, commands_, program_); !known) return known.error();
    entries = *std::move(file);
  }
  return Request{line->command, ""};
}

int Options::run(int argc, char** argv) {
  reset_process_state();
  Result<ExitCode> outcome = ExitCode::bug;
  try {
    auto request = parse(Texts(argv + 1, argv + argc), environment);
    if (request && !request->command) {
      fmt::print("{}", request->text);
      outcome = ExitCode::ok;
    } else if (!request) {
      outcome = request.error();
    } else {
      remove_secrets();  // whatever asks for one has it now
      start_log(log_level_);
      auto files = check_file_limit();
      outcome = files ? request->command->act() : files.error();
    }
  } catch (const std::system_error& problem) {
    if (problem.code() == std::errc::resource_unavailable_try_again) {
      outcome =
          error(ExitCode::config,
                "no more threads can be started: raise the limits of processes and memory (ulimit "
                "-u and -v, or TasksMax= and LimitAS= of its service), or use fewer threads");
    } else {
      outcome = error(ExitCode::bug, "{}; this is a bug, please report it", problem.what());
    }
  } catch (const std::exception& problem) {
    outcome = error(ExitCode::bug, "{}; this is a bug, please report it", problem.what());
  }
  // Where stdout takes nothing, fmt throws, or what it wrote is still in a buffer.
  const bool stdout_failed = std::fflush(stdout) != 0 || std::ferror(stdout);
  if (stdout_failed && (outcome || outcome.error().code == ExitCode::bug))
    outcome = error(ExitCode::io, "can't write to stdout; is it open, and is there space left?");
  if (outcome) return static_cast<int>(*outcome);
  std::fflush(stderr);
  write_to_stderr(fmt::format("{}: {}\n", program_, terminal_text(outcome.error().message)),
                  kLastWords);
  return static_cast<int>(outcome.error().code);
}

}  // namespace millrace
