#include "worker/session/throttle.h"

#include <algorithm>

namespace millrace::worker {

using Kind = Completion::Kind;

bool Throttle::observe(const std::vector<Finished>& ends, uint64_t held, Mono now) {
  const State before = state_;
  for (const Finished& end : ends) {
    const bool is_failure =
        end.completion.kind == Kind::retryable || end.completion.kind == Kind::crash;
    if (end.completion.kind == Kind::released) {
      on_shortage(end.completion.text, held, now);
    } else if (end.completion.kind == Kind::too_late) {
      continue;  // this process stood still; the host is well
    } else if (is_failure && (end.run < kMoment || state_ == State::failing)) {
      on_failure(end, now);
    } else {
      on_success();
    }
  }
  return state_ != before;
}

bool Throttle::note_shortage(std::string why, uint64_t held, Mono now) {
  const State before = state_;
  on_shortage(std::move(why), held, now);
  return state_ != before;
}

// Those behind the first one, until more is let in, don't make the pause longer.
void Throttle::on_shortage(std::string why, uint64_t held, Mono now) {
  if (state_ == State::failing) return;
  why_ = std::move(why);
  last_shortage_ = now;
  if (state_ == State::none) {
    pause_ = kFirstShortage;
  } else if (raised_) {
    pause_ = std::min(2 * pause_, kLongestShortage);
  }
  state_ = State::short_of_something;
  raised_ = false;
  limit_ = std::min(limit_, held);
  wake_at_ = now + pause_;
}

void Throttle::on_failure(const Finished& end, Mono now) {
  if (failures_ == 0 || ++in_a_row_ < failures_) return;
  why_ = end.completion.text;
  if (state_ == State::failing && limit_ == 0) return;  // it had begun before
  pause_ = state_ == State::failing ? std::min(2 * pause_, kLongestBreak) : kFirstBreak;
  state_ = State::failing;
  limit_ = 0;
  wake_at_ = now + pause_;
}

void Throttle::on_success() {
  in_a_row_ = 0;
  if (state_ == State::failing) reset();
}

bool Throttle::tick(Mono now) {
  if (now < wake_at_) return false;
  if (state_ == State::failing) {
    limit_ = 1;
    wake_at_ = Mono::max();
    return false;
  }
  if (now - last_shortage_ >= kQuiet) {
    reset();
    return true;
  }
  raised_ = true;
  limit_ = std::max<uint64_t>(1, limit_ > kNoLimit / 2 ? kNoLimit : 2 * limit_);
  wake_at_ = now + pause_;
  return false;
}

void Throttle::reset() {
  state_ = State::none;
  limit_ = kNoLimit;
  pause_ = Millis(0);
  wake_at_ = Mono::max();
}

}  // namespace millrace::worker
