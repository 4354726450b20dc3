#include "worker/pool/fixed_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <limits>

#include "common/check.h"

namespace millrace::worker {

using protocol::Lease;
using std::chrono::nanoseconds;

namespace {

constexpr double kMeanMemory = 16;  // jobs

// Signals are for the thread that waits for them; a new thread inherits its maker's mask.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

FixedPool::FixedPool(size_t threads, const std::vector<QueueHandler>& handlers,
                     const StopSignal& stop, std::function<void()> listener)
    : handlers_(handlers), stop_(stop), listener_(std::move(listener)) {
  MILLRACE_CHECK(threads > 0 && !handlers.empty());
  for (size_t i = 0; i < threads; ++i) seats_.push_back(std::make_unique<Seat>());
  SignalsBlocked blocked;
  for (auto& seat : seats_) seat->thread = std::thread([this, &seat] { work(*seat); });
}

FixedPool::~FixedPool() {
  {
    std::lock_guard lock(lock_);
    take_back(std::numeric_limits<Clock::rep>::max());
    waiting_.clear();
    ending_ = true;
  }
  arrived_.notify_all();
  for (auto& seat : seats_) seat->thread.join();
}

void FixedPool::submit(std::vector<Job> jobs) {
  size_t wake;
  {
    std::lock_guard lock(lock_);
    for (Job& job : jobs) waiting_.push_back(std::move(job));
    wake = std::min(idle_, jobs.size());
  }
  for (; wake > 0; --wake) arrived_.notify_one();
}

std::vector<Finished> FixedPool::collect() {
  told_.store(false);  // before looking: an end that comes behind our back tells again
  std::vector<Finished> all;
  for (auto& seat : seats_) {
    std::lock_guard lock(seat->ends_lock);
    if (all.empty()) {
      all.swap(seat->ends);
    } else {
      std::move(seat->ends.begin(), seat->ends.end(), std::back_inserter(all));
      seat->ends.clear();
    }
  }
  return all;
}

void FixedPool::forget(const std::vector<Lease>& leases) {
  if (leases.empty()) return;
  auto earlier = [](Lease a, Lease b) {
    return a.job != b.job ? a.job < b.job : a.epoch < b.epoch;
  };
  std::vector<Lease> sorted(leases);
  std::sort(sorted.begin(), sorted.end(), earlier);
  std::lock_guard lock(lock_);
  take_back(std::numeric_limits<Clock::rep>::max());
  std::erase_if(waiting_, [&](const Job& job) {
    return std::binary_search(sorted.begin(), sorted.end(), job.lease, earlier);
  });
}

std::vector<Lease> FixedPool::take_waiting() {
  std::lock_guard lock(lock_);
  take_back(std::numeric_limits<Clock::rep>::max());
  std::vector<Lease> leases;
  for (const Job& job : waiting_) leases.push_back(job.lease);
  waiting_.clear();
  return leases;
}

void FixedPool::work(Seat& seat) {
  Clock::time_point now = Clock::now();
  while (refill(seat, now)) {
    now = Clock::now();
    size_t at = 0;  // the first is ours from refill() on, so that each refill gets a job done
    do {
      seat.since.store(now.time_since_epoch().count(), std::memory_order_relaxed);
      Job job = std::move(seat.bench[at]);
      run(seat, job, &now);
    } while ((at = seat.next.fetch_add(1)) < seat.count);
  }
}

void FixedPool::run(Seat& seat, const Job& job, Clock::time_point* now) {
  const QueueHandler& handler = handlers_[job.queue];
  Finished end{job.lease, handler.handler->run({job, handler.queue, stop_}), {}};
  Clock::time_point ended = Clock::now();
  end.run = std::chrono::duration_cast<nanoseconds>(ended - *now);
  seat.mean_run_ns += (double(end.run.count()) - seat.mean_run_ns) / kMeanMemory;
  *now = ended;
  hand_back(seat, std::move(end));
}

void FixedPool::hand_back(Seat& seat, Finished end) {
  {
    std::lock_guard lock(seat.ends_lock);
    seat.ends.push_back(std::move(end));
  }
  if (!told_.load() && !told_.exchange(true)) listener_();
}

bool FixedPool::refill(Seat& seat, Clock::time_point now) {
  std::unique_lock lock(lock_);
  take_back((now - kSlow).time_since_epoch().count());
  if (waiting_.empty()) take_back(std::numeric_limits<Clock::rep>::max());
  wait_for_jobs(lock);
  if (waiting_.empty()) return false;
  size_t count = share(seat);
  for (size_t i = 0; i < count; ++i) {
    seat.bench[i] = std::move(waiting_.front());
    waiting_.pop_front();
  }
  seat.count = count;
  seat.since.store(std::numeric_limits<Clock::rep>::max(), std::memory_order_relaxed);
  seat.next.store(1);
  return true;
}

void FixedPool::wait_for_jobs(std::unique_lock<std::mutex>& lock) {
  ++idle_;
  arrived_.wait(lock, [this] { return !waiting_.empty() || ending_; });
  --idle_;
}

size_t FixedPool::share(const Seat& seat) const {
  bool tiny = seat.mean_run_ns > 0 && seat.mean_run_ns < double(kTiny.count());
  if (!tiny) return 1;
  return std::min(kBench, (waiting_.size() + seats_.size() - 1) / seats_.size());
}

void FixedPool::take_back(Clock::rep started) {
  for (auto& seat : seats_) {
    if (seat->since.load(std::memory_order_relaxed) > started) continue;
    size_t next = seat->next.exchange(kBench);
    for (size_t at = seat->count; at > next; --at)
      waiting_.push_front(std::move(seat->bench[at - 1]));
  }
}

}  // namespace millrace::worker
