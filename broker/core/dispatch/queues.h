// Which queues there are and who subscribes to them.
// Shape:   a queue is made when it is first named, and removed when it has been empty for
//          Settings::empty_queue_ttl: it holds nothing durable then
// Limits:  Settings::max_queues; nobody makes more than are still free: one key, or one connection,
//          has half of them at most, and the others find room
// Threads: one
#pragma once

#include <deque>
#include <unordered_map>

#include "broker/core/dispatch/dispatcher.h"

namespace millrace::core {

class Queues {
 public:
  Queues(Context& context, Subscriptions& subscriptions, Dispatcher& dispatcher)
      : context_(context),
        state_(context.state),
        subscriptions_(subscriptions),
        dispatcher_(dispatcher) {}

  bool may_make(const Account& maker) const;
  void make(const Account& maker, std::string_view name);
  uint64_t made_by(const Account& maker) const;
  void set(std::string_view name, const records::QueueSettings& settings, Output& out);
  // It must be without jobs. Its settings go with it; workers that ask for it by name make it anew.
  void remove(QueueIndex queue, Output& out);

  bool may_subscribe(size_t patterns) const { return subscriptions_.has_room(patterns); }
  void subscribe(Session& session, const std::vector<std::string_view>& patterns);
  void unsubscribe(Session& session);
  uint64_t workers_of(QueueIndex queue) const;
  void match_some();  // once a round
  bool has_more_to_match() const { return to_match_ > 0; }
  void tick();  // removes empty queues

 private:
  void match(QueueIndex queue);
  void remove_if_unused(QueueIndex queue);
  void erase(QueueIndex queue);

  Context& context_;
  State& state_;
  Subscriptions& subscriptions_;
  Dispatcher& dispatcher_;
  std::deque<Account> makers_;                  // by queue: whose message made it
  std::unordered_map<Account, uint64_t> made_;  // queues that there are, by who made them
  QueueIndex swept_ = 0;                        // where the sweep of empty queues goes on
  QueueIndex matched_ = 0;                      // where match_some() goes on
  size_t to_match_ = 0;                         // queues that it still has to look at
  Mono prefixes_swept_{};
};

}  // namespace millrace::core
