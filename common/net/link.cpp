#include "common/net/link.h"

#include <algorithm>

namespace millrace {
namespace {

// Beyond these a client would spin, or never detect a loss.
constexpr Millis kMinHeartbeat{10};
constexpr Millis kMaxHeartbeat{60'000};
constexpr uint64_t kMaxLiveness = 1000;

}  // namespace

Link::Link(uint64_t seed, Timing timing)
    : timing_(timing),
      random_(seed),
      heartbeat_(timing.heartbeat),
      liveness_(timing.liveness),
      backoff_(timing.backoff_min) {}

// A caller that is late was itself suspended, and has not read what the broker sent meanwhile.
Link::Step Link::next(Mono now) {
  const Mono due = std::max(due_, wake_at());
  if (now > due) last_received_ = std::min(now, last_received_ + (now - due));
  const Step step = next_step(now);
  due_ = std::max(wake_at(), now);
  return step;
}

Link::Step Link::next_step(Mono now) {
  if (state_ != State::down && now >= silent_at()) lost(now);
  if (close_pending_) {
    close_pending_ = false;
    return Step::close;
  }
  if (state_ == State::down) {
    if (now < open_at_) return Step::none;
    state_ = State::waiting;
    session_ = {random() | 1};
    last_received_ = now;
    sent(now);
    ++attempts_;
    return Step::open;
  }
  if (state_ == State::waiting || (!is_asked_ && now < last_sent_ + heartbeat_)) return Step::none;
  sent(now);
  return Step::heartbeat;
}

Mono Link::wake_at() const {
  if (close_pending_) return Mono::min();
  switch (state_) {
    case State::down:
      return open_at_;
    case State::waiting:
      return silent_at();
    case State::connected:
      return is_asked_ ? Mono::min() : std::min(silent_at(), last_sent_ + heartbeat_);
  }
  return Mono::min();
}

void Link::welcomed(Mono now, Millis heartbeat, uint64_t liveness) {
  if (state_ == State::down) return;  // an answer to a session that was given up meanwhile
  if (state_ == State::waiting) welcomed_at_ = now;
  state_ = State::connected;
  heartbeat_ = std::clamp(heartbeat, kMinHeartbeat, kMaxHeartbeat);
  liveness_ = std::clamp<uint64_t>(liveness, 1, kMaxLiveness);
  last_received_ = now;
}

void Link::lost(Mono now) {
  if (state_ == State::down) return;
  state_ = State::down;
  close_pending_ = true;
  int64_t percent = 50 + int64_t(random() % 101);
  open_at_ = now + std::chrono::duration_cast<Mono::duration>(backoff_) * percent / 100;
  backoff_ = std::min(backoff_ * 2, timing_.backoff_max);
}

// SplitMix64: small, and good enough for jitter and for IDs that only have to differ.
uint64_t Link::random() {
  uint64_t z = random_ += 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

}  // namespace millrace
