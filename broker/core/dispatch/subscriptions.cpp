#include "broker/core/dispatch/subscriptions.h"

#include <algorithm>
#include <unordered_set>

#include "common/base/check.h"

namespace millrace::core {
namespace {

constexpr size_t kMaxIdlePrefixes = 4096;

// A pattern in a session's list, and the session among the pattern's subscribers.
uint64_t pair_bytes(std::string_view pattern) {
  return sizeof(std::string) + string_bytes(pattern) + sizeof(SessionId);
}

// Sessions that share a Subscribers: they are its key too.
uint64_t shared_bytes(const std::vector<SessionId>& sessions) {
  constexpr uint64_t kSubscribers = 64;
  return kSubscribers + 2 * allocation_bytes(sessions.size() * sizeof(SessionId));
}

size_t beyond_own(size_t subscriptions) {
  return subscriptions - std::min(subscriptions, kOwnSubscriptions);
}

}  // namespace

bool Subscriptions::has_room(size_t subscriptions) const {
  return beyond_own(subscriptions) <= (kMaxSubscriptions - taken_) / 2;
}

void Subscriptions::take_room(size_t subscriptions) { taken_ += beyond_own(subscriptions); }

void Subscriptions::free_room(size_t subscriptions) { taken_ -= beyond_own(subscriptions); }

uint64_t Subscriptions::memory_bytes() const {
  return bytes_ + hash_map_bytes(names_) + hash_map_bytes(prefixes_) +
         shared_.size() * kTreeNodeBytes<decltype(shared_)::value_type> +
         audiences_.size() * kTreeNodeBytes<decltype(audiences_)::value_type>;
}

bool Subscriptions::add(SessionId session, std::string_view pattern) {
  ++count_;
  bytes_ += pair_bytes(pattern);
  if (!is_prefix(pattern)) {
    auto [name, is_new] = names_.try_emplace(std::string(pattern));
    if (is_new) bytes_ += string_bytes(pattern);
    set(name, with(name->second, session));
    return true;
  }
  auto [found, is_new] = prefixes_.try_emplace(std::string(pattern));
  if (is_new) {
    found->second = std::make_shared<Subscribers>();
    bytes_ += string_bytes(pattern) + shared_bytes({});
    ++prefix_lengths_[pattern.size()];
  }
  found->second->sessions.push_back(session);
  ++version_;
  return is_new;
}

bool Subscriptions::remove(SessionId session, std::string_view pattern) {
  --count_;
  bytes_ -= pair_bytes(pattern);
  if (!is_prefix(pattern)) {
    auto name = names_.find(pattern);
    MILLRACE_CHECK(name != names_.end());
    set(name, without(name->second, session));
    return true;
  }
  auto found = prefixes_.find(pattern);
  MILLRACE_CHECK(found != prefixes_.end());
  std::erase(found->second->sessions, session);
  ++version_;
  if (!found->second->sessions.empty()) return false;
  idle_prefixes_.emplace_back(pattern);
  if (idle_prefixes_.size() > kMaxIdlePrefixes) sweep();
  return false;
}

void Subscriptions::sweep() {
  for (const std::string& pattern : idle_prefixes_) {
    auto found = prefixes_.find(pattern);
    if (found == prefixes_.end() || !found->second->sessions.empty()) continue;
    prefixes_.erase(found);
    bytes_ -= string_bytes(pattern) + shared_bytes({});
    auto length = prefix_lengths_.find(pattern.size());
    if (--length->second == 0) prefix_lengths_.erase(length);
  }
  idle_prefixes_.clear();
}

Subscriptions::Shared Subscriptions::with(const Shared& subscribers, SessionId session) {
  if (last_.adds && last_.to && last_.session == session && last_.from == subscribers)
    return last_.to;
  std::vector<SessionId> sessions;
  if (subscribers) sessions = subscribers->sessions;
  sessions.push_back(session);
  last_ = {subscribers, share(std::move(sessions)), session, true};
  return last_.to;
}

Subscriptions::Shared Subscriptions::without(const Shared& subscribers, SessionId session) {
  if (!last_.adds && last_.from == subscribers && last_.session == session) return last_.to;
  std::vector<SessionId> sessions = subscribers->sessions;
  std::erase(sessions, session);
  last_ = {subscribers, sessions.empty() ? nullptr : share(std::move(sessions)), session, false};
  return last_.to;
}

Subscriptions::Shared Subscriptions::share(std::vector<SessionId> sessions) {
  auto [found, is_new] = shared_.try_emplace(std::move(sessions));
  if (is_new) {
    found->second = std::make_shared<Subscribers>(Subscribers{found->first});
    bytes_ += shared_bytes(found->first);
  }
  return found->second;
}

// Null: nobody subscribes to the name any more.
void Subscriptions::set(ByPattern<Shared>::iterator name, Shared subscribers) {
  if (subscribers) ++subscribers->names;
  if (const Shared& old = name->second; old && --old->names == 0) {
    if (last_.to == old) last_ = {};
    bytes_ -= shared_bytes(old->sessions);
    shared_.erase(old->sessions);
  }
  if (subscribers) {
    name->second = std::move(subscribers);
  } else {
    bytes_ -= string_bytes(name->first);
    names_.erase(name);
  }
}

// Beside its node; a queue that waits has its turn there among what is counted for the queue.
uint64_t Subscriptions::audience_bytes(const Audience& audience) {
  return allocation_bytes(sizeof(Audience)) +
         2 * allocation_bytes(audience.subscribers_.size() * sizeof(Shared)) +
         allocation_bytes(audience.sessions_.capacity() * sizeof(SessionId));
}

Subscriptions::Audience* Subscriptions::match(std::string_view queue) {
  std::vector<Shared> subscribers;
  if (auto exact = names_.find(queue); exact != names_.end()) subscribers.push_back(exact->second);
  std::string prefix;
  for (const auto& [length, count] : prefix_lengths_) {
    if (length - 1 > queue.size()) break;
    prefix.assign(queue.substr(0, length - 1));
    prefix += '*';
    if (auto found = prefixes_.find(prefix); found != prefixes_.end())
      subscribers.push_back(found->second);
  }
  if (subscribers.empty()) return nullptr;
  auto& audience = audiences_[subscribers];
  if (!audience) {
    audience = std::make_unique<Audience>();
    audience->subscribers_ = std::move(subscribers);
    bytes_ += audience_bytes(*audience);
  }
  ++audience->queues_;
  return audience.get();
}

void Subscriptions::release(Audience* audience) {
  if (!audience || --audience->queues_ > 0) return;
  MILLRACE_CHECK(audience->waiting.empty());
  bytes_ -= audience_bytes(*audience);
  audiences_.erase(audiences_.find(audience->subscribers_));
}

const std::vector<SessionId>& Subscriptions::sessions_of(Audience& audience) const {
  const auto& subscribers = audience.subscribers_;
  if (subscribers.size() == 1) return subscribers[0]->sessions;
  auto& sessions = audience.sessions_;
  if (std::exchange(audience.version_, version_) == version_) return sessions;
  bytes_ -= audience_bytes(audience);
  sessions.clear();
  std::unordered_set<SessionId> seen;
  for (const Shared& each : subscribers)
    for (SessionId id : each->sessions)
      if (seen.insert(id).second) sessions.push_back(id);
  bytes_ += audience_bytes(audience);
  return sessions;
}

}  // namespace millrace::core
