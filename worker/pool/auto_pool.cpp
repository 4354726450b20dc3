#include "worker/pool/auto_pool.h"

#include <algorithm>
#include <cmath>

#include "common/base/time.h"

namespace millrace::worker {

using std::chrono::nanoseconds;

AutoPool::AutoPool(PoolSetup setup, size_t min, size_t max)
    : pool_(std::move(setup), std::clamp(default_threads(), min, max)),
      sizer_(min, max, default_threads()) {}

void AutoPool::submit(std::vector<Job> jobs) {
  if (sample_at_ == Mono::max()) begin(read_clock());
  pool_.submit(std::move(jobs));
}

std::vector<Finished> AutoPool::collect() {
  std::vector<Finished> ends = pool_.collect();
  ended_ += double(ends.size());
  for (const Finished& end : ends) {
    if (end.run.count() <= 0) continue;
    ++timed_;
    log_run_ += std::log(std::chrono::duration<double>(end.run).count());
  }
  return ends;
}

Mono AutoPool::wake_at() const { return std::min(sample_at_, pool_.wake_at()); }

void AutoPool::tick(Mono now) {
  pool_.tick(now);
  if (now < sample_at_) return;
  sample_at_ = now + kInterval;
  if (ended_ >= kEnoughEnds || now - since_ >= kLongest) sample(now);
}

void AutoPool::begin(Mono now) {
  PoolLoad load = pool_.load(now);
  begin_interval(now, load);
  cpu_.share();
  allowance_.share(0);
  crowd_.ready_without_core(load.threads);
  sample_at_ = now + kInterval;
}

void AutoPool::begin_interval(Mono now, const PoolLoad& load) {
  since_ = now;
  busy_ = load.busy;
  waited_ = load.waited;
  ended_ = timed_ = log_run_ = 0;
}

void AutoPool::sample(Mono now) {
  PoolLoad load = pool_.load(now);
  double seconds = std::chrono::duration<double>(now - since_).count();
  auto share = [seconds](nanoseconds time) {
    return std::max(0.0, std::chrono::duration<double>(time).count() / seconds);
  };
  Sample sample{seconds, ended_, share(load.busy - busy_), share(load.waited - waited_),
                cpu_.share()};
  sample.used = allowance_.share(seconds);
  double crowded = share(crowd_.ready_without_core(load.threads));
  if (sample.busy > 0) sample.crowd = crowded / sample.busy;
  if (timed_ > 0) sample.run = std::exp(log_run_ / timed_);
  size_t before = sizer_.threads();
  if (size_t next = sizer_.next(sample); next != before) pool_.resize(next, sizer_.why());
  begin_interval(now, load);
  if (sizer_.at_rest()) sample_at_ = Mono::max();  // submit() begins again
}

}  // namespace millrace::worker
