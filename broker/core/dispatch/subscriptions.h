// Which workers take jobs of which queues: by the queue's name, or by a prefix of it ("tenant.*").
// Shape:   pattern → the sessions that subscribed to it; queue name → its audience, which is the
//          subscribers of the name and of each prefix that matches it. Queues with the same
//          subscribers share one audience: a round of dispatch looks at audiences, not at queues.
//          1. Names with the same sessions share one Subscribers, which never changes: a name whose
//             sessions change gets another, and its queue has to be matched anew.
//          2. A prefix has its own, which changes. It stays for a while when its last session has
//             gone: workers that come back find it, and no queue is matched anew.
// Limits:  kOwnSubscriptions of each session, and kMaxSubscriptions more of all together, of which
//          one session takes half of what is left at most; a queue's match costs one look-up for its
//          name and one for each length of prefix
// Owns:    audiences, while a queue has them: match() takes one, release() gives it back
// Threads: one
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "broker/core/state/state.h"

namespace millrace::core {

inline constexpr size_t kOwnSubscriptions = 16;
inline constexpr size_t kMaxSubscriptions = 1 << 20;

inline bool is_prefix(std::string_view pattern) { return pattern.ends_with('*'); }

class Subscriptions {
  struct Subscribers {
    std::vector<SessionId> sessions;
    size_t names = 0;  // that have these; of a prefix 0
  };
  using Shared = std::shared_ptr<Subscribers>;

 public:
  // Whose turn it is among queues: jobs leased so far divided by the weight, smallest first.
  using Turn = std::pair<double, QueueIndex>;

  class Audience {
   public:
    // Dispatch's:
    std::set<Turn> waiting;  // queues that may lease jobs
    double level = 0;        // the pass at which the last grant began

   private:
    friend class Subscriptions;
    std::vector<Shared> subscribers_;  // of the name first, then of prefixes, the shortest first
    std::vector<SessionId> sessions_;  // of several subscribers together
    uint64_t version_ = 0;             // of the prefixes that sessions_ were gathered from
    uint64_t queues_ = 0;
  };

  // Whether a session may have so many.
  bool has_room(size_t subscriptions) const;
  // A session has so many from here on, or no longer.
  void take_room(size_t subscriptions);
  void free_room(size_t subscriptions);

  // True: queues that the pattern matches have to be matched anew.
  bool add(SessionId session, std::string_view pattern);
  bool remove(SessionId session, std::string_view pattern);
  // Forgets prefixes that nobody subscribes to.
  void sweep();

  size_t count() const { return count_; }  // a pattern of a session is one
  uint64_t memory_bytes() const;           // with the patterns that the sessions name

  bool has_name(std::string_view name) const { return names_.contains(name); }
  Audience* match(std::string_view queue);  // null: no pattern matches
  void release(Audience* audience);
  // In the order in which they subscribed, by the name first; each once.
  const std::vector<SessionId>& sessions_of(Audience& audience) const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <typename Value>
  using ByPattern = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  static uint64_t audience_bytes(const Audience& audience);
  Shared with(const Shared& subscribers, SessionId session);
  Shared without(const Shared& subscribers, SessionId session);
  Shared share(std::vector<SessionId> sessions);
  void set(ByPattern<Shared>::iterator name, Shared subscribers);

  ByPattern<Shared> names_;
  ByPattern<Shared> prefixes_;               // with the '*'
  std::map<size_t, size_t> prefix_lengths_;  // with the '*' → how many prefixes
  std::vector<std::string> idle_prefixes_;   // whose last session has gone; some have one again
  std::map<std::vector<SessionId>, Shared> shared_;
  // The last answer of with() and without(): a message names many queues that have the same.
  struct {
    Shared from, to;
    SessionId session;
    bool adds = false;
  } last_;
  size_t taken_ = 0;  // of kMaxSubscriptions
  size_t count_ = 0;
  // Of texts, sessions of names, audiences: all that is not in a node of a table.
  mutable uint64_t bytes_ = 0;  // sessions_of() makes a list when it is first asked for
  uint64_t version_ = 1;
  std::map<std::vector<Shared>, std::unique_ptr<Audience>> audiences_;
};

}  // namespace millrace::core
