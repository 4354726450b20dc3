#include "common/cli/help.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace millrace {
namespace {

using Kind = OptionSpec::Kind;

constexpr int kNameColumn = 2;
constexpr int kTextColumn = 28;  // where the description of an option or command begins

// The words of a text, or of a command line: there a quoted word with blanks is one word.
Texts words_of(std::string_view text, bool quotes) {
  Texts words;
  std::string word;
  bool quoted = false;
  for (char c : text) {
    if (quotes && c == '\'') quoted = !quoted;
    if (c != ' ' || quoted) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, ""));
    }
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

// Lines of a help text, with the words filled in up to the width.
class Page {
 public:
  explicit Page(int width) : width_(static_cast<size_t>(width)) {}

  void blank() { text_ += '\n'; }
  void line(std::string_view line) { text_ += fmt::format("{}\n", line); }

  // `lead`, which may be empty, and the text from `indent` on.
  void paragraph(std::string_view lead, std::string_view text, int indent = 0) {
    fill(lead, words_of(text, false), static_cast<size_t>(indent), "");
  }

  // A name in the first column and its description in the second.
  void entry(std::string_view name, std::string_view text) {
    std::string lead = std::string(kNameColumn, ' ').append(name);
    if (lead.size() + 2 > kTextColumn) {
      paragraph("", lead, kNameColumn);
      lead.clear();
    }
    paragraph(lead, text, kTextColumn);
  }

  // A command line, which goes on behind a backslash.
  void shell(std::string_view command) {
    const std::string first(kNameColumn, ' ');
    fill(first, words_of(command, true), kNameColumn + 2, " \\", kNameColumn);
  }

  std::string text() && { return std::move(text_); }

 private:
  void fill(std::string_view lead, const Texts& words, size_t indent, std::string_view joint) {
    fill(lead, words, indent, joint, indent);
  }

  void fill(std::string_view lead, const Texts& words, size_t indent, std::string_view joint,
            size_t first_indent) {
    std::string line(lead);
    line.resize(std::max(line.size(), first_indent), ' ');
    bool empty = true;
    for (size_t i = 0; i < words.size(); ++i) {
      const size_t tail = i + 1 < words.size() ? joint.size() : 0;
      if (!empty && line.size() + 1 + words[i].size() + tail > width_) {
        text_ += fmt::format("{}{}\n", line, joint);
        line.assign(indent, ' ');
        empty = true;
      }
      line += empty ? words[i] : " " + words[i];
      empty = false;
    }
    text_ += line + '\n';
  }

  size_t width_;
  std::string text_;
};

std::string name_of(const OptionSpec& spec) {
  std::string name = spec.short_name.empty() ? spec.name : spec.short_name + ", " + spec.name;
  if (spec.kind == Kind::toggle || spec.kind == Kind::argument) return name;
  return name + " " + spec.form;
}

std::string description_of(const OptionSpec& spec) {
  Texts notes;
  if (spec.required) notes.emplace_back("required");
  if (!spec.fallback.empty()) notes.push_back("default: " + spec.fallback);
  return notes.empty() ? spec.help : fmt::format("{} ({})", spec.help, fmt::join(notes, "; "));
}

std::string synopsis_of(const Command& command) {
  if (!command.synopsis().empty()) return command.synopsis();
  std::string synopsis;
  for (const OptionSpec& spec : command.specs())
    if (spec.kind == Kind::argument)
      synopsis += spec.required ? " " + spec.name : " [" + spec.name + "]";
  return "[OPTIONS]" + synopsis;
}

void add_group(Page& page, const Command& command, const std::string& group) {
  page.blank();
  page.line(group + ":");
  for (const OptionSpec& spec : command.specs())
    if (spec.group == group && spec.kind != Kind::argument)
      page.entry(name_of(spec), description_of(spec));
}

void add_arguments(Page& page, const Command& command) {
  bool first = true;
  for (const OptionSpec& spec : command.specs()) {
    if (spec.kind != Kind::argument) continue;
    if (std::exchange(first, false)) {
      page.blank();
      page.line("Arguments:");
    }
    page.entry(spec.name, description_of(spec));
  }
}

void add_options(Page& page, const Command& command) {
  Texts groups;
  for (const OptionSpec& spec : command.specs()) {
    const bool listed = std::find(groups.begin(), groups.end(), spec.group) != groups.end();
    if (!listed && spec.kind != Kind::argument && spec.group != kGeneralGroup)
      groups.push_back(spec.group);
  }
  for (const std::string& group : groups) add_group(page, command, group);
  add_group(page, command, std::string(kGeneralGroup));
  page.entry("-h, --help", "print this help and exit");
  page.entry("-V, --version", "print the version and exit");
}

void add_examples(Page& page, const Command& command) {
  if (command.examples().empty()) return;
  page.blank();
  page.line("Examples:");
  for (const std::string& example : command.examples()) page.shell(example);
}

// The first option that environment and file can set too, one of the command's own if there is any.
const OptionSpec& example_of_layers(const Command& command) {
  const auto& specs = command.specs();
  auto found = std::find_if(specs.begin(), specs.end(), [](const OptionSpec& spec) {
    return in_file(spec) && spec.group != kGeneralGroup;
  });
  if (found == specs.end()) found = std::find_if(specs.begin(), specs.end(), in_file);
  return *found;  // every command has --log-level
}

// Where else options can be set: true for this command, with an option of its own as the example.
void add_footer(Page& page, const Command& command) {
  const OptionSpec& example = example_of_layers(command);
  page.blank();
  page.paragraph(
      "", fmt::format("Set an option on the command line ({}), in the environment ({}) or in the "
                      "TOML file given with --config (key: {}). The command line takes precedence "
                      "over the environment, and the environment over the file.",
                      example.name, variable_of(example.name), key_of(example)));
  Texts only;
  bool repeatable = false;
  for (const OptionSpec& spec : command.specs()) {
    if (spec.kind != Kind::argument && !in_environment(spec)) only.push_back(spec.name);
    repeatable |= spec.kind == Kind::list && in_environment(spec);
  }
  if (repeatable)
    page.paragraph("",
                   "A repeatable option takes one value per line in the environment, and a list in "
                   "the file.");
  if (!only.empty())
    page.paragraph("", fmt::format("Only on the command line: {}.", fmt::join(only, ", ")));
}

}  // namespace

int help_width(const char* columns) {
  int width = 0;
  if (columns) {
    auto parsed = parse_integer(columns, 1, 100'000);
    if (parsed) width = static_cast<int>(*parsed);
  }
  winsize size{};
  if (width == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) width = size.ws_col;
  return width == 0 ? kDefaultWidth : std::clamp(width, kMinWidth, kMaxWidth);
}

std::string variable_of(std::string_view flag) {
  std::string name = "MILLRACE_";
  for (char c : flag.substr(2)) name += c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

std::string_view key_of(const OptionSpec& spec) { return std::string_view(spec.name).substr(2); }

bool in_environment(const OptionSpec& spec) {
  return !spec.command_line_only && spec.kind != Kind::argument;
}

bool in_file(const OptionSpec& spec) { return in_environment(spec) && spec.name != "--config"; }

std::string program_help(std::string_view program, std::string_view summary,
                         const std::deque<Command>& commands, int width) {
  Page page(width);
  page.line(fmt::format("Usage: {} COMMAND [OPTIONS]", program));
  page.blank();
  page.paragraph("", summary);
  page.blank();
  page.line("Commands:");
  for (const Command& command : commands) page.entry(command.name(), command.summary());
  page.blank();
  page.line("Options:");
  page.entry("-h, --help", "print this help and exit");
  page.entry("-V, --version", "print the version and exit");
  page.blank();
  page.paragraph("", fmt::format("'{} COMMAND --help' describes a command.", program));
  return std::move(page).text();
}

std::string command_help(std::string_view program, const Command& command, int width) {
  Page page(width);
  const std::string usage = fmt::format("Usage: {} {} ", program, command.name());
  page.paragraph("", usage + synopsis_of(command));
  page.blank();
  page.paragraph("", command.summary());
  add_arguments(page, command);
  add_options(page, command);
  add_examples(page, command);
  add_footer(page, command);
  return std::move(page).text();
}

}  // namespace millrace
