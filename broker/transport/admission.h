// Whose key each connection has shown, and whether it is still allowed. A ROUTER can't end a
// connection, so a key that was taken off the list is kept out here, frame by frame.
// Shape:   admits(route, key) for each frame; change_keys() → the routes whose keys are gone
// Limits:  connections that have ended are let go by keep_only(), which is due when is_crowded()
// Threads: one, the core's; a KeySet is immutable
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "broker/core/core.h"

namespace millrace::server {

struct KeyHash {
  using is_transparent = void;
  size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
};
using KeySet = std::unordered_set<std::string, KeyHash, std::equal_to<>>;
using KeySetPtr = std::shared_ptr<const KeySet>;

class Admission {
 public:
  // Nobody, until change_keys().
  bool admits(core::Route route, std::string_view key);
  // A routing id that a client chose itself may have been another's before.
  bool had_other_key(core::Route route, std::string_view key) const;
  // Numbers from 1, one for each key that was ever admitted.
  core::KeyId id_of(std::string_view key);
  // In a fixed order.
  std::vector<core::Route> change_keys(KeySetPtr keys);

  bool is_crowded() const { return key_of_.size() >= crowd_; }
  void keep_only(const std::vector<core::Route>& routes);

 private:
  static constexpr size_t kLeastCrowd = 1024;
  static uint64_t place_of(core::Route route) {
    return route.id << 1 | uint64_t(route.port == core::Port::backend);
  }

  KeySetPtr keys_ = std::make_shared<KeySet>();
  std::unordered_map<uint64_t, std::string> key_of_;
  std::unordered_map<std::string, core::KeyId, KeyHash, std::equal_to<>> ids_;
  size_t crowd_ = kLeastCrowd;
};

}  // namespace millrace::server
