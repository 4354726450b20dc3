#include "broker/core/dispatch/queues.h"

#include <algorithm>
#include <unordered_set>

namespace millrace::core {
namespace {

constexpr size_t kSweptPerTick = 1024;  // slots of the queue table that a tick looks at
constexpr size_t kMatchedPerRound = 512;
constexpr uint64_t kMakeWork = 16;  // of a new queue, beside what names it
constexpr Millis kPrefixSweep{60000};

}  // namespace

bool Queues::may_make(const Account& maker) const {
  const uint64_t used = state_.queue_count();
  if (used >= context_.settings.max_queues) return false;
  auto made = made_.find(maker);
  return made == made_.end() || made->second < context_.settings.max_queues - used;
}

void Queues::make(const Account& maker, std::string_view name) {
  if (state_.has_queue(name)) return;
  const QueueIndex queue = state_.queue_index(name);
  if (queue >= makers_.size()) makers_.resize(queue + 1);
  makers_[queue] = maker;
  if (maker != Account{}) ++made_[maker];
  context_.work += kMakeWork;
  match(queue);
}

uint64_t Queues::made_by(const Account& maker) const {
  auto made = made_.find(maker);
  return made == made_.end() ? 0 : made->second;
}

void Queues::set(std::string_view name, const records::QueueSettings& settings, Output& out) {
  context_.emit(records::QueueSet{std::string(name), settings}, out);
}

void Queues::subscribe(Session& session, const std::vector<std::string_view>& patterns) {
  std::unordered_set<std::string_view> named;
  for (std::string_view pattern : patterns) {
    if (!named.insert(pattern).second) continue;
    session.subscriptions.emplace_back(pattern);
    const bool is_new = subscriptions_.add(session.id, pattern);
    if (is_prefix(pattern)) {
      if (is_new) to_match_ = state_.queues().size();
      continue;
    }
    // So that the queue is shown with its workers before anything was submitted to it.
    if (const auto queue = state_.find_queue(pattern)) {
      match(*queue);
    } else if (may_make(maker_of(session))) {
      make(maker_of(session), pattern);
    }
  }
  subscriptions_.take_room(session.subscriptions.size());
  context_.work += kMakeWork * session.subscriptions.size();
}

void Queues::unsubscribe(Session& session) {
  for (const std::string& pattern : session.subscriptions) {
    if (!subscriptions_.remove(session.id, pattern)) continue;
    if (const auto queue = state_.find_queue(pattern)) match(*queue);
  }
  subscriptions_.free_room(session.subscriptions.size());
  context_.work += kMakeWork * session.subscriptions.size();
}

void Queues::match(QueueIndex queue) {
  dispatcher_.set_audience(queue, subscriptions_.match(state_.queues()[queue].name));
}

// After a new prefix: all queues, a part in each round.
void Queues::match_some() {
  const size_t slots = state_.queues().size();
  to_match_ = std::min(to_match_, slots);
  for (size_t i = std::min(to_match_, kMatchedPerRound); i > 0; --i, --to_match_) {
    if (++matched_ >= slots) matched_ = 0;
    if (state_.queues()[matched_].in_use()) match(matched_);
  }
}

uint64_t Queues::workers_of(QueueIndex queue) const {
  Subscriptions::Audience* audience = dispatcher_.audience_of(queue);
  return audience ? subscriptions_.sessions_of(*audience).size() : 0;
}

void Queues::tick() {
  const size_t slots = state_.queues().size();
  for (size_t i = 0; i < std::min(slots, kSweptPerTick); ++i) {
    if (++swept_ >= slots) swept_ = 0;
    if (state_.queues()[swept_].in_use()) remove_if_unused(swept_);
  }
  if (context_.now.mono - prefixes_swept_ < kPrefixSweep) return;
  prefixes_swept_ = context_.now.mono;
  subscriptions_.sweep();
}

void Queues::remove_if_unused(QueueIndex index) {
  const Queue& queue = state_.queues()[index];
  if (!queue.is_empty() || subscriptions_.has_name(queue.name))
    return state_.set_empty_since(index, Mono{});
  if (queue.empty_since == Mono{}) return state_.set_empty_since(index, context_.now.mono);
  if (context_.now.mono - queue.empty_since >= context_.settings.empty_queue_ttl) erase(index);
}

void Queues::remove(QueueIndex index, Output& out) {
  const std::string name = state_.queues()[index].name;
  if (state_.queues()[index].settings != records::QueueSettings{})
    context_.emit(records::QueueSet{name, {}}, out);
  erase(index);
  if (subscriptions_.has_name(name)) make(Account{}, name);
}

void Queues::erase(QueueIndex index) {
  dispatcher_.remove(index);
  if (index < makers_.size()) {
    const Account maker = std::exchange(makers_[index], {});
    if (auto made = made_.find(maker); made != made_.end() && --made->second == 0)
      made_.erase(made);
  }
  state_.remove_queue(index);
}

}  // namespace millrace::core
