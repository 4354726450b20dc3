// The rule of the pool that sizes itself, against a queue of single jobs of which a few take long.
#include <algorithm>
#include <cmath>
#include <deque>
#include <queue>
#include <random>
#include <vector>

#include "tests/catch.h"
#include "worker/pool/sizer.h"

using namespace millrace::worker;

namespace {

constexpr double kInterval = 0.2;  // seconds of a sample

// Handlers that wait, jobs that arrive at random, first come first served.
class MixedQueue {
 public:
  struct Load {
    double per_second = 5000;
    double usual = 0.001, rare = 0.1;  // seconds of a job
    double share = 0.01;               // of the rare ones
  };

  MixedQueue(Load load, uint64_t seed) : load_(load), random_(seed) { next_ = gap(); }

  Sample step(size_t threads) {
    threads_ = threads;
    start();
    const double end = now_ + kInterval;
    busy_ = waited_ = ended_ = log_run_ = 0;
    for (;;) {
      const double finish = running_.empty() ? end : running_.top().finish;
      const double event = std::min({next_, finish, end});
      pass(event);
      if (event == end) break;
      event == next_ ? arrive() : complete();
    }
    const double run = ended_ > 0 ? std::exp(log_run_ / ended_) : 0;
    return {kInterval, ended_, busy_ / kInterval, waited_ / kInterval, 0.3, 0, 0, run};
  }

  size_t waiting() const { return arrived_.size(); }
  // Of jobs that started in the last step(), in seconds, for a thread.
  std::vector<double> take_waits() { return std::exchange(waits_, {}); }

 private:
  struct Running {
    double finish, run;
    bool operator<(const Running& other) const { return finish > other.finish; }
  };

  double gap() { return std::exponential_distribution(load_.per_second)(random_); }

  void pass(double event) {
    busy_ += double(running_.size()) * (event - now_);
    if (!arrived_.empty()) waited_ += event - now_;
    now_ = event;
  }

  void arrive() {
    arrived_.push_back(now_);
    next_ = now_ + gap();
    start();
  }

  void complete() {
    ++ended_;
    log_run_ += std::log(running_.top().run);
    running_.pop();
    start();
  }

  void start() {
    for (; !arrived_.empty() && running_.size() < threads_; arrived_.pop_front()) {
      const bool is_rare = std::bernoulli_distribution(load_.share)(random_);
      const double run = is_rare ? load_.rare : load_.usual;
      running_.push({now_ + run, run});
      waits_.push_back(now_ - arrived_.front());
    }
  }

  const Load load_;
  std::mt19937_64 random_;
  std::priority_queue<Running> running_;
  std::deque<double> arrived_;
  std::vector<double> waits_;
  size_t threads_ = 0;
  double now_ = 0, next_ = 0;
  double busy_ = 0, waited_ = 0, ended_ = 0, log_run_ = 0;  // of this step
};

double percentile_99(std::vector<double> values) {
  auto at = values.begin() + ptrdiff_t(values.size() - values.size() / 100 - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

constexpr MixedQueue::Load kLoads[] = {{5000, 0.001, 0.1, 0.01},
                                       {5000, 0.001, 0.2, 0.005},
                                       {2000, 0.001, 0.1, 0.05},
                                       {1000, 0.005, 1, 0.005}};

}  // namespace

TEST_CASE("a few long jobs among many do not hide that more threads pay", "[sizer]") {
  for (const MixedQueue::Load& load : kLoads) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      INFO(load.rare << " s, seed " << seed);
      MixedQueue queue(load, seed);
      Sizer sizer(1, 256, 4);
      for (double t = 0; t < 3; t += kInterval) sizer.next(queue.step(sizer.threads()));
      const double busy = load.per_second * (load.usual + load.share * (load.rare - load.usual));
      CHECK(double(sizer.threads()) > busy);
      CHECK(queue.waiting() < 100);
    }
  }
}

TEST_CASE("once the pool has found its size, long jobs hold up few others", "[sizer]") {
  for (const MixedQueue::Load& load : kLoads) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      INFO(load.rare << " s, seed " << seed);
      MixedQueue queue(load, seed);
      Sizer sizer(1, 256, 4);
      for (double t = 0; t < 3; t += kInterval) sizer.next(queue.step(sizer.threads()));
      queue.take_waits();
      for (double t = 0; t < 20; t += kInterval) sizer.next(queue.step(sizer.threads()));
      CHECK(percentile_99(queue.take_waits()) < 0.2 * load.usual);
    }
  }
}
