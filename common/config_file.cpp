#include "common/config_file.h"

#include <fmt/format.h>

#include <stdexcept>

// The parser of toml++ meets some bad texts with an assertion only: "[" at the end of a line. They
// must be an error here, and neither the end of the program nor, without assertions, undefined.
namespace millrace {
[[noreturn]] static void reject_toml() {
  throw std::logic_error("not valid TOML: a key or a table's name is cut off");
}
}  // namespace millrace
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void(0) : millrace::reject_toml())
#include <toml++/toml.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace millrace {
namespace {

std::optional<std::string> scalar_text(const toml::node& node) {
  if (auto text = node.value_exact<std::string>()) return *text;
  if (auto number = node.value_exact<int64_t>()) return fmt::format("{}", *number);
  if (auto number = node.value_exact<double>()) return fmt::format("{}", *number);
  if (auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  return std::nullopt;
}

// Nothing when the node is, or holds, anything but scalars.
std::optional<std::vector<std::string>> texts_of(const toml::node& node) {
  std::vector<std::string> texts;
  if (const toml::array* list = node.as_array()) {
    for (const toml::node& item : *list) {
      auto text = scalar_text(item);
      if (!text) return std::nullopt;
      texts.push_back(*std::move(text));
    }
    return texts;
  }
  auto text = scalar_text(node);
  if (!text) return std::nullopt;
  texts.push_back(*std::move(text));
  return texts;
}

std::string place_of(const std::string& name, const toml::key& key) {
  return fmt::format("{}:{}", name, key.source().begin.line);
}

class Flattener {
 public:
  explicit Flattener(const std::string& name) : name_(name) {}

  Result<void> add(const toml::table& table, const std::string& table_name) {
    for (const auto& [key, node] : table) {
      const toml::table* inner = node.as_table();
      auto added =
          inner && table_name.empty() ? add_table(key, *inner) : add_value(key, node, table_name);
      if (!added) return added;
    }
    return {};
  }

  std::vector<ConfigEntry> take() { return std::move(entries_); }

 private:
  Result<void> add_table(const toml::key& key, const toml::table& table) {
    std::string name(key.str());
    entries_.push_back({name, "", {}, place_of(name_, key)});
    return add(table, name);
  }

  Result<void> add_value(const toml::key& key, const toml::node& node, const std::string& table) {
    auto texts = texts_of(node);
    if (!texts) {
      return Error{ExitCode::config,
                   fmt::format("{}: the value of '{}' must be a string, a number, true or false, "
                               "or a list of these",
                               place_of(name_, key), key.str())};
    }
    entries_.push_back({table, std::string(key.str()), *std::move(texts), place_of(name_, key)});
    return {};
  }

  const std::string& name_;
  std::vector<ConfigEntry> entries_;
};

}  // namespace

Result<std::vector<ConfigEntry>> parse_config(const std::string& text, const std::string& name) {
  Flattener flattener(name);
  try {
    auto added = flattener.add(toml::parse(text, name), "");
    if (!added) return added.error();
  } catch (const toml::parse_error& error) {
    return Error{ExitCode::config, fmt::format("{}:{}: not valid TOML: {}", name,
                                               error.source().begin.line, error.description())};
  } catch (const std::logic_error& error) {
    return Error{ExitCode::config, fmt::format("{}: {}", name, error.what())};
  }
  return flattener.take();
}

Result<std::vector<ConfigEntry>> read_config_file(const std::string& path) {
  auto close = [](std::FILE* open) { std::fclose(open); };
  std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "re"));
  std::string text;
  std::array<char, 4096> chunk;
  size_t size = 0;
  while (file && (size = std::fread(chunk.data(), 1, chunk.size(), file.get())) > 0) {
    text.append(chunk.data(), size);
  }
  if (!file || std::ferror(file.get())) {  // a directory opens, and then can't be read
    return Error{ExitCode::config,
                 fmt::format("can't read the configuration file {}: {}; check the path that "
                             "--config or MILLRACE_CONFIG gives",
                             path, std::strerror(errno))};
  }
  return parse_config(text, path);
}

}  // namespace millrace
