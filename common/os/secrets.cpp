#include "common/os/secrets.h"

#include <strings.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace millrace {
namespace {

constexpr std::string_view kPrefix = "MILLRACE_";

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

bool begins_with(std::string_view text, std::string_view word) {
  return text.size() >= word.size() && strncasecmp(text.data(), word.data(), word.size()) == 0;
}

bool contains(std::string_view text, std::string_view word) {
  for (; text.size() >= word.size(); text.remove_prefix(1))
    if (begins_with(text, word)) return true;
  return false;
}

}  // namespace

bool is_secret(std::string_view variable) {
  const std::string_view name = name_of(variable);
  if (!begins_with(name, kPrefix)) return false;
  for (std::string_view word : {"TOKEN", "KEY", "SECRET", "PASSWORD"})
    if (contains(name.substr(kPrefix.size()), word)) return true;
  return false;
}

void hide_secrets() {
  for (char** at = environ; at && *at; ++at) {
    if (!is_secret(*at)) continue;
    char* value = std::strchr(*at, '=');
    if (value) explicit_bzero(value + 1, std::strlen(value + 1));
  }
}

void remove_secrets() {
  hide_secrets();
  std::vector<std::string> names;
  for (char** at = environ; at && *at; ++at)
    if (is_secret(*at)) names.emplace_back(name_of(*at));
  for (const std::string& name : names) unsetenv(name.c_str());
}

}  // namespace millrace
