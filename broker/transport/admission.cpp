#include "broker/transport/admission.h"

#include <algorithm>

namespace millrace::server {

bool Admission::admits(core::Route route, std::string_view key) {
  if (!keys_->contains(key)) return false;
  // A routing id that a client chose itself can come back with another key.
  std::string& known = key_of_[place_of(route)];
  if (known != key) known = key;
  return true;
}

bool Admission::had_other_key(core::Route route, std::string_view key) const {
  auto known = key_of_.find(place_of(route));
  return known != key_of_.end() && known->second != key;
}

core::KeyId Admission::id_of(std::string_view key) {
  auto found = ids_.find(key);
  if (found == ids_.end()) found = ids_.emplace(key, core::KeyId{ids_.size() + 1}).first;
  return found->second;
}

std::vector<core::Route> Admission::change_keys(KeySetPtr keys) {
  keys_ = std::move(keys);
  std::vector<uint64_t> gone;
  for (const auto& [place, key] : key_of_)
    if (!keys_->contains(key)) gone.push_back(place);
  std::sort(gone.begin(), gone.end());
  std::vector<core::Route> routes;
  for (uint64_t place : gone) {
    key_of_.erase(place);
    routes.push_back({place & 1 ? core::Port::backend : core::Port::frontend, place >> 1});
  }
  return routes;
}

void Admission::keep_only(const std::vector<core::Route>& routes) {
  std::unordered_map<uint64_t, std::string> kept;
  for (core::Route route : routes) {
    auto found = key_of_.find(place_of(route));
    if (found != key_of_.end()) kept.insert(key_of_.extract(found));
  }
  key_of_ = std::move(kept);
  crowd_ = std::max(kLeastCrowd, 2 * key_of_.size());
}

}  // namespace millrace::server
