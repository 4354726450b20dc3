// Which queues there are and who subscribes to them. A queue is made when it is first named, and
// removed when it has been empty for a while: it holds nothing durable then.
#include <algorithm>
#include <unordered_set>

#include "broker/core/core.h"

namespace millrace::core {
namespace {

constexpr size_t kSweptPerTick = 1024;  // slots of the queue table that a tick looks at
constexpr size_t kMatchedPerRound = 512;
constexpr uint64_t kMakeWork = 16;  // of a new queue, beside what names it
constexpr Millis kPrefixSweep{60000};

}  // namespace

// Nobody makes more queues than are still free: one key, or one connection, has half of them at
// most, and the others find room.
bool Core::may_make_queue(const Account& maker) const {
  const uint64_t used = state_.queue_count();
  if (used >= settings_.max_queues) return false;
  auto made = made_.find(maker);
  return made == made_.end() || made->second < settings_.max_queues - used;
}

void Core::make_queue(const Account& maker, std::string_view name) {
  if (state_.has_queue(name)) return;
  const QueueIndex queue = state_.queue_index(name);
  flow_of(queue).maker = maker;
  if (maker != Account{}) ++made_[maker];
  work_ += kMakeWork;
  match(queue);
}

void Core::subscribe(Session& session, const std::vector<std::string_view>& patterns) {
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
    } else if (may_make_queue(maker_of(session))) {
      make_queue(maker_of(session), pattern);
    }
  }
  subscriptions_.take_room(session.subscriptions.size());
  work_ += kMakeWork * session.subscriptions.size();
}

void Core::unsubscribe(Session& session) {
  for (const std::string& pattern : session.subscriptions) {
    if (!subscriptions_.remove(session.id, pattern)) continue;
    if (const auto queue = state_.find_queue(pattern)) match(*queue);
  }
  subscriptions_.free_room(session.subscriptions.size());
  work_ += kMakeWork * session.subscriptions.size();
}

// Finds who subscribes to the queue, and lets it wait among their other queues.
void Core::match(QueueIndex queue) {
  Flow& flow = flow_of(queue);
  Subscriptions::Audience* audience = subscriptions_.match(state_.queues()[queue].name);
  if (audience == flow.audience) return subscriptions_.release(audience);
  displace(queue);
  subscriptions_.release(flow.audience);
  flow.audience = audience;
  place(queue);
}

// After a new prefix: all queues, a part in each round.
void Core::match_some() {
  const size_t slots = state_.queues().size();
  to_match_ = std::min(to_match_, slots);
  for (size_t i = std::min(to_match_, kMatchedPerRound); i > 0; --i, --to_match_) {
    if (++matched_ >= slots) matched_ = 0;
    if (state_.queues()[matched_].in_use()) match(matched_);
  }
}

uint64_t Core::workers_of(QueueIndex queue) const {
  if (queue >= flows_.size() || !flows_[queue].audience) return 0;
  return subscriptions_.sessions_of(*flows_[queue].audience).size();
}

void Core::tick_queues() {
  const size_t slots = state_.queues().size();
  for (size_t i = 0; i < std::min(slots, kSweptPerTick); ++i) {
    if (++swept_ >= slots) swept_ = 0;
    if (state_.queues()[swept_].in_use()) remove_if_unused(swept_);
  }
  if (now_.mono - prefixes_swept_ < kPrefixSweep) return;
  prefixes_swept_ = now_.mono;
  subscriptions_.sweep();
}

void Core::remove_if_unused(QueueIndex index) {
  const Queue& queue = state_.queues()[index];
  if (!queue.is_empty() || subscriptions_.has_name(queue.name))
    return state_.set_empty_since(index, Mono{});
  if (queue.empty_since == Mono{}) return state_.set_empty_since(index, now_.mono);
  if (now_.mono - queue.empty_since >= settings_.empty_queue_ttl) remove(index);
}

void Core::delete_queue(Now now, QueueIndex index, Output& out) {
  now_ = now;
  const std::string name = state_.queues()[index].name;
  if (state_.queues()[index].settings != records::QueueSettings{})
    emit(records::QueueSet{name, {}}, out);
  remove(index);
  if (subscriptions_.has_name(name)) make_queue(Account{}, name);
}

void Core::remove(QueueIndex index) {
  displace(index);
  Flow& flow = flow_of(index);
  subscriptions_.release(flow.audience);
  if (auto made = made_.find(flow.maker); made != made_.end() && --made->second == 0)
    made_.erase(made);
  flow = {};
  state_.remove_queue(index);
}

}  // namespace millrace::core
