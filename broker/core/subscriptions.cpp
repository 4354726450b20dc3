#include "broker/core/subscriptions.h"

#include <algorithm>
#include <unordered_set>

#include "common/check.h"

namespace millrace::core {
namespace {

constexpr size_t kMaxIdlePrefixes = 4096;

size_t beyond_own(size_t subscriptions) {
  return subscriptions - std::min(subscriptions, kOwnSubscriptions);
}

}  // namespace

bool Subscriptions::has_room(size_t subscriptions) const {
  return beyond_own(subscriptions) <= (kMaxSubscriptions - taken_) / 2;
}

void Subscriptions::take_room(size_t subscriptions) { taken_ += beyond_own(subscriptions); }

void Subscriptions::free_room(size_t subscriptions) { taken_ -= beyond_own(subscriptions); }

bool Subscriptions::add(SessionId session, std::string_view pattern) {
  if (!is_prefix(pattern)) {
    auto name = names_.try_emplace(std::string(pattern)).first;
    set(name, with(name->second, session));
    return true;
  }
  auto [found, is_new] = prefixes_.try_emplace(std::string(pattern));
  if (is_new) {
    found->second = std::make_shared<Subscribers>();
    ++prefix_lengths_[pattern.size()];
  }
  found->second->sessions.push_back(session);
  ++version_;
  return is_new;
}

bool Subscriptions::remove(SessionId session, std::string_view pattern) {
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
  if (is_new) found->second = std::make_shared<Subscribers>(Subscribers{found->first});
  return found->second;
}

// Null: nobody subscribes to the name any more.
void Subscriptions::set(ByPattern<Shared>::iterator name, Shared subscribers) {
  if (subscribers) ++subscribers->names;
  if (const Shared& old = name->second; old && --old->names == 0) {
    if (last_.to == old) last_ = {};
    shared_.erase(old->sessions);
  }
  if (subscribers) {
    name->second = std::move(subscribers);
  } else {
    names_.erase(name);
  }
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
  }
  ++audience->queues_;
  return audience.get();
}

void Subscriptions::release(Audience* audience) {
  if (!audience || --audience->queues_ > 0) return;
  MILLRACE_CHECK(audience->waiting.empty());
  audiences_.erase(audiences_.find(audience->subscribers_));
}

const std::vector<SessionId>& Subscriptions::sessions_of(Audience& audience) const {
  const auto& subscribers = audience.subscribers_;
  if (subscribers.size() == 1) return subscribers[0]->sessions;
  auto& sessions = audience.sessions_;
  if (std::exchange(audience.version_, version_) == version_) return sessions;
  sessions.clear();
  std::unordered_set<SessionId> seen;
  for (const Shared& each : subscribers)
    for (SessionId id : each->sessions)
      if (seen.insert(id).second) sessions.push_back(id);
  return sessions;
}

}  // namespace millrace::core
