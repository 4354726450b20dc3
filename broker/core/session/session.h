// A peer's session, and the connection that it was opened on.
// Shape:   each group of members belongs to the part of the core that it names; the others read it
// Limits:  kMaxSessionsPerConnection; protocol::kMaxSessions of all
// Threads: one
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/session/question.h"
#include "broker/core/state/account.h"
#include "broker/core/state/state.h"

namespace millrace::core {

enum class Port : uint8_t { frontend, backend };

// A connection, as the loop around the core knows it.
struct Route {
  Port port = Port::frontend;
  uint64_t id = 0;
  bool operator==(const Route&) const = default;
};

inline constexpr size_t kMaxSessionsPerConnection = 64;  // ours have one
inline constexpr uint64_t kMaxLeasesOfWorker =
    16384;  // whatever its credit: they may return at once

// How long a session may send nothing before another connection takes over its producer or worker:
// a client sends something in each heartbeat, and half of one is for what delays it.
inline constexpr Millis takeover_time(Millis heartbeat) { return heartbeat * 3 / 2; }

// Another connection asks for the producer or worker of a session.
struct Takeover {
  SessionId newer;           // 0: its connection was closed
  Mono since{};              // the older session was sent a HEARTBEAT
  bool is_answered = false;  // the older session has sent something since
  bool has_lapsed = false;   // it has not, for takeover_time()
};

struct Session {
  SessionId id;
  Route route;
  KeyId key;  // that opened it, and that alone may use it
  Mono last_received, last_sent;
  std::optional<Takeover> takeover;
  bool reachable = true;
  bool is_worker = false;
  Uuid peer;
  // Workers: Leases
  std::string name;
  std::vector<std::string> labels;
  WorkerIndex worker = 0;
  uint64_t threads = 0, credit = 0;
  uint64_t done = 0, failed = 0;
  // Queues
  std::vector<std::string> subscriptions;  // names of queues, and prefixes that end in '*'
  // Dispatcher
  double pass = 0;      // of the queue that it was last granted jobs of
  Mono last_suspect{};  // when it was given one, or claimed what it held
  Epoch careful_up_to;  // while it holds a lease up to this one, it prefetches none; 0: it may
  uint64_t granted_bytes = 0, granted_in = 0;  // in the dispatch of this number
  // Producers: Submissions
  bool knows_draining = false;  // a submission of it was rejected so
  // Answers
  std::deque<Question> questions;  // the first is being answered
};

// Of the connection, over both ports.
inline uint64_t number_of(Route route) {
  return route.id << 1 | uint64_t(route.port == Port::backend);
}

// How many jobs the worker may be running: at least one.
inline uint64_t threads_of(const Session& worker) {
  return std::clamp<uint64_t>(worker.threads, 1, kMaxLeasesOfWorker);
}

// Whose the queues are that the session's messages make.
inline Account maker_of(const Session& session) {
  if (session.key != KeyId{}) return {Account::Kind::key, session.key.value, {}};
  return {Account::Kind::connection, number_of(session.route), {}};
}

}  // namespace millrace::core
