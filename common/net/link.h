// The state machine of a client's connection to a broker: opens it, sends heartbeats, detects the
// loss of the broker, and reopens it after a jittered back-off (docs/PROTOCOL.md, section 2).
// Shape:   down ──open──▶ waiting ──welcomed()──▶ connected
//           ▲ backoff       │ silent, lost()        │ silent, lost()
//           └──── close ◀───┴───────────────────────┘
//          1. Each open has a new random session ID, which is never 0.
//          2. After a close the next open waits 100 ms, doubling to 5 s, × 0.5 to 1.5. A message that
//             is received kProvenAfter after the WELCOME, or later, resets the back-off.
//          3. An attempt without a WELCOME within heartbeat × liveness is lost too.
//          4. The time by which next() is called later than wake_at() does not count as the broker's
//             silence.
// Units:   monotonic time, passed in
// Threads: one thread
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace millrace {

class Link {
 public:
  // Without it, clients would contact a broker that fails right after each WELCOME at the full rate
  // for ever.
  static constexpr Millis kProvenAfter{1000};

  struct Timing {
    Millis backoff_min{100};
    Millis backoff_max{5000};
    Millis heartbeat{1000};  // both until a WELCOME says otherwise
    uint64_t liveness = 3;
  };

  // Session IDs and jitter are derived from the seed: two clients must not share one.
  Link(uint64_t seed, Timing timing);

  // What the caller has to do now:
  //   open       drop any old socket, open a new one, send HELLO or REGISTER with session()
  //   heartbeat  send HEARTBEAT
  //   close      drop the socket: the broker was lost
  enum class Step { none, open, heartbeat, close };
  Step next(Mono now);
  // When next() will have a step; in the past if it has one now.
  Mono wake_at() const;

  void sent(Mono now) {
    last_sent_ = now;
    is_asked_ = false;
  }
  // Something valid for this session was received.
  void received(Mono now) {
    last_received_ = now;
    if (connected() && now - welcomed_at_ >= kProvenAfter) backoff_ = timing_.backoff_min;
  }
  void welcomed(Mono now, Millis heartbeat, uint64_t liveness);
  // HEARTBEAT was received: the broker may want to know whether this client is alive, because
  // another connection asks for its session. The next step is a heartbeat.
  void asked() { is_asked_ = true; }
  // REREGISTER, or a failed send. No effect if the link is down.
  void lost(Mono now);

  // When the broker treats this client as gone, unless it receives something before; without a
  // session, long after next() has to be called.
  Mono gone_at(Mono now) const {
    const Millis silence = heartbeat_ * std::max<int64_t>(int64_t(liveness_), 2);
    return connected() ? last_sent_ + silence : now + 2 * std::max(silence, timing_.backoff_max);
  }

  bool connected() const { return state_ == State::connected; }
  bool is_down() const { return state_ == State::down; }  // no session is open
  // Of the last open; it has no meaning before the first.
  SessionId session() const { return session_; }
  uint64_t attempts() const { return attempts_; }

 private:
  enum class State { down, waiting, connected };

  Step next_step(Mono now);
  uint64_t random();
  Mono silent_at() const { return last_received_ + heartbeat_ * int64_t(liveness_); }

  Timing timing_;
  uint64_t random_;
  State state_ = State::down;
  bool close_pending_ = false;
  bool is_asked_ = false;
  Millis heartbeat_;
  uint64_t liveness_;
  Millis backoff_;
  Mono open_at_{};
  Mono last_sent_{};
  Mono last_received_{};
  Mono welcomed_at_{};
  Mono due_ = Mono::max();  // when next() should be called again
  SessionId session_;
  uint64_t attempts_ = 0;
};

}  // namespace millrace
