#include "worker/process/shell_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace millrace::worker {
namespace {

constexpr std::string_view kName =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+-";
constexpr std::string_view kExec = "exec ";

// Builtins and reserved words of the usual shells, which mean something else than a program.
constexpr std::string_view kOfShell[] = {
    ".",       "[",       "alias",  "bg",       "bind",    "break",    "builtin",   "caller",
    "case",    "cd",      "chdir",  "command",  "compgen", "complete", "compopt",   "continue",
    "declare", "dirs",    "disown", "do",       "done",    "echo",     "elif",      "else",
    "enable",  "esac",    "eval",   "exec",     "exit",    "export",   "false",     "fc",
    "fg",      "fi",      "for",    "function", "getopts", "hash",     "help",      "history",
    "if",      "in",      "jobs",   "kill",     "let",     "local",    "logout",    "mapfile",
    "popd",    "print",   "printf", "pushd",    "pwd",     "read",     "readarray", "readonly",
    "return",  "select",  "set",    "shift",    "shopt",   "source",   "suspend",   "test",
    "then",    "time",    "times",  "trap",     "true",    "type",     "typeset",   "ulimit",
    "umask",   "unalias", "unset",  "until",    "wait",    "while"};

bool is_program(std::string_view word) {
  if (word.find('/') != std::string_view::npos) return true;
  if (std::find(std::begin(kOfShell), std::end(kOfShell), word) != std::end(kOfShell)) return false;
  const char* path = std::getenv("PATH");
  for (std::string_view rest = path ? path : ""; !rest.empty();) {
    const std::string_view directory = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
    if (access(fmt::format("{}/{}", directory, word).c_str(), X_OK) == 0) return true;
  }
  return false;
}

// Where a quoted part ends, whose quote stands at `at`; npos if it holds more than text and
// variables.
size_t end_of_quoted(std::string_view text, size_t at) {
  const char quote = text[at];
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == quote) return i;
    if (quote == '\'') continue;
    if (text[i] == '\\') ++i;
    if (i < text.size() && (text[i] == '`' || text.substr(i, 2) == "$(")) break;
  }
  return std::string_view::npos;
}

bool is_simple(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char sign = text[i];
    if (sign == '\\') {
      ++i;
    } else if (sign == '\'' || sign == '"') {
      i = end_of_quoted(text, i);
      if (i == std::string_view::npos) return false;
    } else if (sign == '&') {
      if (i == 0 || (text[i - 1] != '>' && text[i - 1] != '<')) return false;
    } else if (std::string_view(";|()`\n#{}").find(sign) != std::string_view::npos) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string shell_command(std::string_view command) {
  const size_t end = std::min(command.find_first_not_of(kName), command.size());
  const bool is_word = end > 0 && (end == command.size() || command[end] == ' ');
  if (!is_word || command[0] == '-' || !is_simple(command) || !is_program(command.substr(0, end)))
    return std::string(command);
  return fmt::format("{}{}", kExec, command);
}

std::vector<std::string> plain_words(std::string_view text) {
  const std::string allowed = fmt::format("{}=,:@% ", kName);
  if (!text.starts_with(kExec) || text.find_first_not_of(allowed) != std::string_view::npos)
    return {};
  text.remove_prefix(kExec.size());
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  const bool is_command =
      !words.empty() && words[0][0] != '-' && words[0].find('=') == std::string::npos;
  return is_command ? words : std::vector<std::string>();
}

}  // namespace millrace::worker
