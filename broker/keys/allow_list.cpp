#include "broker/keys/allow_list.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unordered_set>

#include "common/base/utf8.h"
#include "common/net/curve.h"
#include "common/os/file_descriptor.h"

namespace millrace::keys {
namespace {

constexpr uint64_t kMaxBytes = 64 << 20;  // kMaxAllowed lines, and as much of comments

Error config(std::string message) { return {ExitCode::config, std::move(message)}; }

Error failed(const char* what, const std::string& path) {
  return {ExitCode::io, fmt::format("can't {} {}: {}", what, path, strerror(errno))};
}

Result<std::string> read_whole(const std::string& path, int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return failed("look at", path);
  if (!S_ISREG(info.st_mode))
    return config(fmt::format("the allow-list {} is not a regular file", path));
  if (info.st_mode & 022)
    return config(
        fmt::format("the allow-list {} can be written by others (mode {:04o}), who could admit any "
                    "key: chmod go-w {}",
                    path, unsigned(info.st_mode & 07777), path));
  if (uint64_t(info.st_size) > kMaxBytes)
    return config(
        fmt::format("the allow-list {} is larger than {} MiB: is it one?", path, kMaxBytes >> 20));
  std::string text(size_t(info.st_size), '\0');
  const ssize_t bytes = read(fd, text.data(), text.size());
  if (bytes < 0) return failed("read the allow-list", path);
  text.resize(size_t(bytes));
  return text;
}

std::string directory_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

// Beside the list, then in its place; durable before this returns.
Result<void> replace(const std::string& path, int directory, const std::string& text, mode_t mode) {
  const std::string beside = path + ".new";
  unlink(beside.c_str());  // of an edit that was cut off: we hold the lock
  FileDescriptor file(open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.get() < 0)
    return Error{ExitCode::cant_create,
                 fmt::format("can't create {}: {}", beside, strerror(errno))};
  const bool written = write(file.get(), text.data(), text.size()) == ssize_t(text.size()) &&
                       fsync(file.get()) == 0 && rename(beside.c_str(), path.c_str()) == 0 &&
                       fsync(directory) == 0;
  if (written) return {};
  auto failure = failed("write the allow-list", path);
  unlink(beside.c_str());
  return failure;
}

}  // namespace

const AllowedKey* AllowList::find(std::string_view key) const {
  auto at = std::find_if(keys.begin(), keys.end(),
                         [&](const AllowedKey& allowed) { return allowed.key == key; });
  return at == keys.end() ? nullptr : &*at;
}

bool AllowList::add(AllowedKey added) {
  for (AllowedKey& allowed : keys) {
    if (allowed.key != added.key) continue;
    const bool changes = !added.name.empty() && allowed.name != added.name;
    if (changes) allowed.name = std::move(added.name);
    return changes;
  }
  keys.push_back(std::move(added));
  return true;
}

size_t AllowList::remove(const std::function<bool(const AllowedKey&)>& is_meant) {
  return std::erase_if(keys, is_meant);
}

bool valid_key_name(std::string_view name) {
  if (name.size() > kMaxName || !protocol::is_utf8(name)) return false;
  const bool has_control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == 0x7f;
  });
  return !has_control && !name.starts_with(' ') && !name.ends_with(' ');
}

Result<AllowList> parse_allow_list(const std::string& path, std::string_view text) {
  AllowList list;
  std::unordered_set<std::string_view> seen;
  for (size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty() || line[0] == '#') continue;
    const size_t space = std::min(line.find(' '), line.size());
    const std::string_view key = line.substr(0, space);
    const std::string_view name = line.substr(std::min(space + 1, line.size()));
    if (!valid_curve_key(key) || !valid_key_name(name))
      return config(
          fmt::format("{}:{}: not a line of an allow-list, which is a public key of 40 characters, "
                      "a space, and a name",
                      path, number));
    if (!seen.insert(key).second)
      return config(fmt::format("{}:{}: this key is listed twice", path, number));
    if (list.keys.size() == kMaxAllowed)
      return config(fmt::format("{}:{}: more than {} keys", path, number, kMaxAllowed));
    list.keys.push_back({std::string(key), std::string(name)});
  }
  return list;
}

std::string format_allow_list(const AllowList& list) {
  std::string text =
      "# Public keys that a Millrace broker accepts; edit it with 'millrace-broker keys'.\n";
  for (const AllowedKey& allowed : list.keys)
    text += allowed.key + (allowed.name.empty() ? "" : " " + allowed.name) + "\n";
  return text;
}

Result<AllowList> read_allow_list(const std::string& path) {
  FileDescriptor file(
      open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));  // or a pipe would stop us here
  if (file.get() < 0)
    return config(
        fmt::format("can't read the allow-list {}: {}; 'millrace-broker keys add --allow {} "
                    "FILE.pub' creates one",
                    path, strerror(errno), path));
  auto text = read_whole(path, file.get());
  if (!text) return text.error();
  return parse_allow_list(path, *text);
}

Result<AllowList> edit_allow_list(const std::string& path,
                                  const std::function<Result<bool>(AllowList&)>& change) {
  const std::string parent = directory_of(path);
  FileDescriptor directory(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0)
    return Error{ExitCode::cant_create,
                 fmt::format("can't open the directory {}: {}", parent, strerror(errno))};
  if (flock(directory.get(), LOCK_EX) != 0) return failed("lock", parent);
  AllowList list;
  mode_t mode = 0644;
  struct stat info {};
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists) {
    auto found = read_allow_list(path);
    if (!found) return found.error();
    list = *std::move(found);
    mode = info.st_mode & 0777;
  }
  auto changed = change(list);
  if (!changed) return changed.error();
  if (!*changed) return list;
  if (auto written = replace(path, directory.get(), format_allow_list(list), mode); !written)
    return written.error();
  return list;
}

}  // namespace millrace::keys
