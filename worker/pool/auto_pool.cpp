#include "worker/pool/auto_pool.h"

#include <algorithm>

namespace millrace::worker {

using std::chrono::nanoseconds;

AutoPool::AutoPool(PoolSetup setup, size_t min, size_t max)
    : FixedPool(std::move(setup), std::clamp(default_threads(), min, max)),
      sizer_(min, max, default_threads()) {}

void AutoPool::submit(std::vector<Job> jobs) {
  if (sample_at_ == Mono::max()) begin(std::chrono::steady_clock::now());
  FixedPool::submit(std::move(jobs));
}

std::vector<Finished> AutoPool::collect() {
  std::vector<Finished> ends = FixedPool::collect();
  ended_ += double(ends.size());
  return ends;
}

Mono AutoPool::wake_at() const { return std::min(sample_at_, FixedPool::wake_at()); }

void AutoPool::tick(Mono now) {
  FixedPool::tick(now);
  if (now < sample_at_) return;
  if (ended_ < kEnoughEnds && now - before_.at < kLongest) {
    sample_at_ = now + kInterval;
    return;
  }
  sample(now);
}

AutoPool::Counters AutoPool::read(Mono now) {
  std::vector<pid_t> threads;
  Counters counters{now};
  {
    std::lock_guard lock(lock_);
    counters.busy = busy(now);
    counters.waited = waiting_.waited(now);
    for (auto& seat : seats_) {
      if (!seat->retired) threads.push_back(seat->tid);
    }
  }
  counters.crowded = crowd_.ready_without_core(threads);
  return counters;
}

void AutoPool::begin(Mono now) {
  before_ = read(now);
  cpu_.share();
  ended_ = 0;
  sample_at_ = now + kInterval;
}

void AutoPool::sample(Mono now) {
  Counters counters = read(now);
  double seconds = std::chrono::duration<double>(now - before_.at).count();
  auto share = [seconds](nanoseconds time) {
    return std::max(0.0, std::chrono::duration<double>(time).count() / seconds);
  };
  Sample sample{seconds, ended_, share(counters.busy - before_.busy),
                share(counters.waited - before_.waited), cpu_.share()};
  if (sample.busy > 0) sample.crowd = share(counters.crowded) / sample.busy;
  size_t before = sizer_.threads();
  if (size_t next = sizer_.next(sample); next != before) resize(next, sizer_.why());
  before_ = counters;
  ended_ = 0;
  sample_at_ = sizer_.at_rest() ? Mono::max() : now + kInterval;  // then submit() begins again
}

}  // namespace millrace::worker
