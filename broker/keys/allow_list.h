// The list of public keys that a broker lets in: a text file, a line "Z85KEY NAME" for each.
// Shape:   the name is for people, and may be missing; blank lines and lines that begin with
//          '#', as no key does, are skipped, and gone once the list has been edited
//          1. edit_allow_list() holds a lock on the directory and replaces the file whole, by a
//             rename: a reader sees the old list or the new one.
//          2. A list that others can write lets in whomever they like, so it is refused.
// Limits:  kMaxAllowed keys
// Errors:  config (78) for a list that must not be used, with file and line; io (74), cant_create
// Threads: any, also processes
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace millrace::keys {

inline constexpr size_t kMaxAllowed = 65536;
inline constexpr size_t kMaxName = 256;

struct AllowedKey {
  std::string key;
  std::string name;
  bool operator==(const AllowedKey&) const = default;
};

struct AllowList {
  std::vector<AllowedKey> keys;

  const AllowedKey* find(std::string_view key) const;
  // Adds, or gives a key that is there the new name; false: nothing had to change.
  bool add(AllowedKey added);
  // How many were taken out.
  size_t remove(const std::function<bool(const AllowedKey&)>& is_meant);
};

bool valid_key_name(std::string_view name);

Result<AllowList> parse_allow_list(const std::string& path, std::string_view text);
std::string format_allow_list(const AllowList& list);

Result<AllowList> read_allow_list(const std::string& path);
// `change` says whether the list is to be written. A list that is not there yet begins empty.
Result<AllowList> edit_allow_list(const std::string& path,
                                  const std::function<Result<bool>(AllowList&)>& change);

}  // namespace millrace::keys
