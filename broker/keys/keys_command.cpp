#include "broker/keys/keys_command.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "broker/keys/allow_list.h"
#include "common/base/terminal_text.h"
#include "common/net/curve.h"

namespace millrace::keys {
namespace {

using Json = nlohmann::ordered_json;

Error usage(std::string message) { return {ExitCode::usage, std::move(message)}; }

void print(bool json, const Json& object, const std::string& text) {
  fmt::print("{}", json ? terminal_json(object.dump()) + "\n" : text);
}

// ---- keygen

struct KeygenFlags {
  std::string file;
  bool json = false;
};

Result<ExitCode> run_keygen(const KeygenFlags& flags) {
  if (flags.file.empty()) return usage("keygen needs a FILE for the secret key");
  if (auto usable = curve_usable(); !usable) return usable.error();
  const CurvePair pair = make_curve_pair();
  if (auto written = write_curve_pair(flags.file, pair); !written) return written.error();
  print(flags.json,
        {{"public_key", pair.public_key},
         {"secret_file", flags.file},
         {"public_file", flags.file + ".pub"}},
        pair.public_key + "\n");
  return ExitCode::ok;
}

// ---- keys

struct KeysFlags {
  std::string action, allow, name, key;
  bool json = false;
};

// A file that holds a key, and lends its name, or a key as it is. A path of 40 characters can look
// like a key, so files come first.
Result<AllowedKey> meant(const KeysFlags& flags) {
  std::error_code ignored;
  const bool is_file = std::filesystem::exists(flags.key, ignored);
  if (!is_file && valid_curve_key(flags.key)) return AllowedKey{flags.key, flags.name};
  if (!is_file)
    return Error{ExitCode::bad_data,
                 fmt::format("'{}' is neither a public key (40 characters of Z85) nor a file: give "
                             "a key that 'millrace-broker keygen' printed, or its FILE.pub",
                             flags.key)};
  auto key = read_public_key(flags.key);
  if (!key) return Error{ExitCode::bad_data, key.error().message};
  const std::string stem = std::filesystem::path(flags.key).stem().string();
  return AllowedKey{*key, flags.name.empty() && valid_key_name(stem) ? stem : flags.name};
}

Json list_json(const AllowList& list) {
  Json keys = Json::array();
  for (const AllowedKey& allowed : list.keys)
    keys.push_back({{"key", allowed.key}, {"name", allowed.name}});
  return Json::object({{"keys", keys}});
}

Result<ExitCode> run_ls(const KeysFlags& flags) {
  auto list = read_allow_list(flags.allow);
  if (!list) return list.error();
  std::string text;
  for (const AllowedKey& allowed : list->keys)
    text += allowed.key + (allowed.name.empty() ? "" : "  " + terminal_text(allowed.name)) + "\n";
  print(flags.json, list_json(*list), text);
  return ExitCode::ok;
}

Result<ExitCode> run_add(const KeysFlags& flags) {
  auto added = meant(flags);
  if (!added) return added.error();
  bool is_new = false, changes = false;
  auto list = edit_allow_list(flags.allow, [&](AllowList& edited) -> Result<bool> {
    is_new = !edited.find(added->key);
    if (is_new && edited.keys.size() == kMaxAllowed)
      return Error{ExitCode::bad_data,
                   fmt::format("the list is full: it holds {} keys", kMaxAllowed)};
    return changes = edited.add(*added);
  });
  if (!list) return list.error();
  const AllowedKey& stands = *list->find(added->key);
  print(flags.json,
        {{"key", stands.key},
         {"name", stands.name},
         {"added", is_new},
         {"changed", changes},
         {"count", list->keys.size()}},
        fmt::format("{} {}{}\n", is_new ? "added" : (changes ? "renamed" : "was there already:"),
                    stands.key, stands.name.empty() ? "" : "  " + terminal_text(stands.name)));
  return ExitCode::ok;
}

Result<ExitCode> run_remove(const KeysFlags& flags) {
  std::string key;
  if (!flags.key.empty()) {
    auto removed = meant(flags);
    if (!removed) return removed.error();
    key = removed->key;
  }
  AllowList gone;
  auto list = edit_allow_list(flags.allow, [&](AllowList& edited) -> Result<bool> {
    edited.remove([&](const AllowedKey& allowed) {
      const bool is_meant = key.empty() ? allowed.name == flags.name : allowed.key == key;
      if (is_meant) gone.keys.push_back(allowed);
      return is_meant;
    });
    if (!gone.keys.empty()) return true;
    return Error{ExitCode::bad_data,
                 fmt::format("{} is not on {}: 'millrace-broker keys ls' lists the keys",
                             key.empty() ? "'" + flags.name + "'" : key, flags.allow)};
  });
  if (!list) return list.error();
  std::string text;
  for (const AllowedKey& allowed : gone.keys)
    text += fmt::format("removed {}{}\n", allowed.key,
                        allowed.name.empty() ? "" : "  " + terminal_text(allowed.name));
  Json json{{"removed", list_json(gone)["keys"]}, {"count", list->keys.size()}};
  print(flags.json, json, text);
  return ExitCode::ok;
}

Result<ExitCode> run_keys(const KeysFlags& flags) {
  constexpr const char* kActions = "add, remove or ls";
  const std::string& action = flags.action;
  if (action.empty()) return usage(fmt::format("keys needs an action: {}", kActions));
  if (action != "add" && action != "remove" && action != "ls")
    return usage(fmt::format("unknown action '{}': keys takes {}", action, kActions));
  if (flags.allow.empty())
    return usage(fmt::format(
        "keys {} needs --allow with the file that serve reads with --curve-allow", action));
  if (!valid_key_name(flags.name))
    return usage(
        fmt::format("--name takes up to {} bytes of UTF-8, without control characters and without "
                    "leading or trailing spaces",
                    kMaxName));
  if (action == "ls" && (!flags.key.empty() || !flags.name.empty()))
    return usage("keys ls lists all keys; KEY and --name apply to add and remove only");
  if (action == "add" && flags.key.empty())
    return usage("keys add needs a public key, or the FILE.pub that contains it");
  if (action == "remove" && flags.key.empty() == flags.name.empty())
    return usage("keys remove needs a public key, its FILE.pub, or --name");
  if (auto usable = curve_usable(); !usable) return usable.error();
  if (action == "add") return run_add(flags);
  return action == "ls" ? run_ls(flags) : run_remove(flags);
}

}  // namespace

void add_keys_commands(Options& options) {
  // The actions keep what their flags fill.
  auto keygen = std::make_shared<KeygenFlags>();
  Command& make = options.command(
      "keygen", "Generate a key pair: the secret key FILE and the public key FILE.pub",
      [keygen] { return run_keygen(*keygen); });
  make.synopsis("FILE [OPTIONS]");
  make.group("Output");
  make.toggle("--json", keygen->json, "print one JSON object");
  make.only_from_command_line();
  make.argument("FILE", keygen->file, "file to create; neither FILE nor FILE.pub may exist");
  make.example("millrace-broker keygen broker.key");

  auto keys = std::make_shared<KeysFlags>();
  Command& edit = options.command("keys", "Show or edit the list of keys that a broker accepts",
                                  [keys] { return run_keys(*keys); });
  edit.synopsis("add|remove|ls [KEY] --allow FILE [OPTIONS]");
  edit.group("Output");
  edit.toggle("--json", keys->json, "print one JSON object");
  edit.only_from_command_line();
  edit.argument("ACTION", keys->action, "add, remove or ls (list)");
  edit.argument("KEY", keys->key, "public key, or a file FILE.pub that contains one");
  edit.group("List");
  edit.text("--allow", keys->allow, "FILE", "the list, which serve reads with --curve-allow");
  edit.text("--name", keys->name, "NAME", "name shown for the key (default: the name of the file)");
  edit.example("millrace-broker keys add worker-7.pub --allow clients.allow");
  edit.example("millrace-broker keys remove --name worker-7 --allow clients.allow");
  edit.example("millrace-broker keys ls --allow clients.allow");
}

}  // namespace millrace::keys
