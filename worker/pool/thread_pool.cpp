#include "worker/pool/thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "common/base/check.h"
#include "common/base/time.h"
#include "common/os/log.h"
#include "common/os/signals.h"

namespace millrace::worker {

using protocol::Lease;

namespace {

// How often time-outs are looked at: an eighth of one, within these.
constexpr int kLooksPerTimeout = 8;
constexpr Millis kLeastLook{5}, kMostLook{250};

}  // namespace

ThreadPool::ThreadPool(PoolSetup setup, size_t wanted) : setup_(std::move(setup)), wanted_(wanted) {
  MILLRACE_CHECK(wanted > 0 && !setup_.handlers.empty());
}

ThreadPool::~ThreadPool() { MILLRACE_CHECK(worker_threads_.empty()); }

bool ThreadPool::start(std::unique_ptr<WorkerThread> worker_thread) {
  SignalsBlocked blocked;
  auto at = worker_threads_.insert(worker_threads_.end(), std::move(worker_thread));
  try {
    (*at)->thread = std::thread([this, at] { attend(at); });  // waits for lock_, which we hold
  } catch (const std::system_error& error) {
    log_error("can't make a thread", {{"threads", live_}, {"why", error.what()}});
    worker_threads_.erase(at);
    return false;
  }
  ++live_;
  return true;
}

void ThreadPool::attend(std::list<std::unique_ptr<WorkerThread>>::iterator at) {
  pthread_setname_np(pthread_self(), "millrace-pool");
  {
    std::lock_guard started(lock_);
    (*at)->tid = gettid();
  }
  work(**at);
  {
    std::lock_guard lock(lock_);
    leave(**at);
    if (!(*at)->retired) busy_before_ += (*at)->busy(Mono());
    stuck_ -= (*at)->retired;
    gone_.splice(gone_.end(), worker_threads_, at);
    left_.notify_all();
  }
  tell();
}

void ThreadPool::leave(WorkerThread& worker_thread) {
  if (worker_thread.retired || worker_thread.leaving) return;
  worker_thread.leaving = true;
  --live_;
}

Mono ThreadPool::run(WorkerThread& worker_thread, const Job& job, Mono now) {
  Mono ended = worker_thread.run(job, setup_.handlers[job.queue], now, gate_.end(), stopping_);
  tell();
  return ended;
}

void ThreadPool::tell() {
  if (!told_.load() && !told_.exchange(true)) setup_.listener();
}

void ThreadPool::received(std::vector<Job>& jobs) {
  Mono now = read_clock();
  for (Job& job : jobs) job.waits_since = now;
  if (outstanding_ == 0) wake_at_ = now;
  outstanding_ += jobs.size();
}

std::vector<Finished> ThreadPool::collect() {
  told_.store(false);  // before looking: an end that comes behind our back tells again
  reap();
  std::vector<Finished> all;
  for (CompletionQueue& box : queues_) box.collect(&all);
  outstanding_ -= all.size();
  return all;
}

void ThreadPool::reap() {
  std::list<std::unique_ptr<WorkerThread>> gone;
  {
    std::lock_guard lock(lock_);
    gone.swap(gone_);
  }
  for (auto& worker_thread : gone) worker_thread->thread.join();
}

void ThreadPool::forget(const std::vector<Lease>& leases, Source source) {
  if (leases.empty()) return;
  std::vector<Lease> sorted(leases);
  std::sort(sorted.begin(), sorted.end(), lease_before);
  std::lock_guard lock(lock_);
  take_back();
  outstanding_ -= waiting_.take(sorted, source).size();
  for (auto& worker_thread : worker_threads_) worker_thread->stop(sorted, source);
}

std::vector<Lease> ThreadPool::take(std::vector<Lease> leases, Source source) {
  std::sort(leases.begin(), leases.end(), lease_before);
  std::lock_guard lock(lock_);
  take_back();
  std::vector<Lease> taken = waiting_.take(leases, source);
  outstanding_ -= taken.size();
  return taken;
}

std::vector<Lease> ThreadPool::take_waiting(Source source) {
  std::lock_guard lock(lock_);
  take_back();
  std::vector<Lease> leases = waiting_.take_all(source);
  outstanding_ -= leases.size();
  return leases;
}

void ThreadPool::allow_starts_until(Mono until) {
  gate_.open_until(until);
  if (!held_up_.load() || !held_up_.exchange(false)) return;
  std::lock_guard lock(lock_);
  resume();
}

// Said before looking a second time: who opens the gate behind our back is told.
bool ThreadPool::may_take() {
  if (gate_.is_open()) return true;
  held_up_.store(true);
  return gate_.is_open();
}

// Without a time-out there is nothing to look after: what stays due would be a loop that spins.
Mono ThreadPool::wake_at() const {
  bool watches = setup_.run_timeout && (outstanding_ > 0 || expired_ > 0);
  return watches ? wake_at_ : Mono::max();
}

void ThreadPool::tick(Mono now) {
  if (!setup_.run_timeout) return;
  Millis timeout = *setup_.run_timeout;
  wake_at_ = now + std::clamp(timeout / kLooksPerTimeout, kLeastLook, kMostLook);
  bool any = false;
  {
    std::lock_guard lock(lock_);
    for (auto& worker_thread : worker_threads_)
      any |= worker_thread->expire(now - timeout, now, timeout);
  }
  any |= retire_stuck(now);
  if (any) tell();
}

// Whether there are ends to collect.
bool ThreadPool::retire_stuck(Mono now) {
  std::lock_guard lock(lock_);
  expired_ = 0;
  bool any = false;
  size_t lost = 0;
  for (auto& worker_thread : worker_threads_) {
    if (worker_thread->retired) continue;
    if (!worker_thread->stuck_since(Mono::max())) continue;
    auto job = worker_thread->stuck_since(now - setup_.kill_after - kStuckAfter);
    if (!job) {
      ++expired_;
      continue;
    }
    any |= worker_thread->give_up(now);
    busy_before_ += worker_thread->busy(now);
    worker_thread->retired = true;
    --live_;
    ++stuck_;
    ++lost;
    log_error("a handler does not stop; its thread is stuck", {{"job", *job}, {"stuck", stuck_}});
  }
  for (; lost > 0 && !ending_; --lost) replace();
  return any;
}

std::chrono::nanoseconds ThreadPool::busy(Mono now) const {
  std::chrono::nanoseconds sum = busy_before_;
  for (auto& worker_thread : worker_threads_) {
    if (!worker_thread->retired) sum += worker_thread->busy(now);
  }
  return sum;
}

size_t ThreadPool::threads() const {
  std::lock_guard lock(lock_);
  return wanted_;
}

bool ThreadPool::too_many_stuck() const {
  std::lock_guard lock(lock_);
  return stuck_ >= std::max(kLeastStuck, wanted_);
}

PoolStats ThreadPool::stats() const {
  std::lock_guard lock(lock_);
  PoolStats stats{.threads = live_, .stuck = stuck_, .waiting = waiting_.size(), .sizes = sizes_};
  for (auto& worker_thread : worker_threads_)
    stats.busy += worker_thread->running() && !worker_thread->retired;
  return stats;
}

void ThreadPool::note_size(std::string_view why) {
  if (sizes_.size() >= kMostSizes) sizes_.erase(sizes_.begin());
  sizes_.push_back({Now::read().wall, wanted_, why});
}

void ThreadPool::stop() {
  stopping_.store(true);
  std::lock_guard lock(lock_);
  for (auto& worker_thread : worker_threads_) worker_thread->stop();
}

bool ThreadPool::close(Millis timeout) {
  bool all_left;
  {
    std::unique_lock lock(lock_);
    take_back();
    waiting_.clear();
    ending_ = true;
    arrived_.notify_all();
    all_left = left_.wait_for(lock, timeout, [this] { return worker_threads_.empty(); });
  }
  reap();
  return all_left;
}

void ThreadPool::end() {
  while (!close(std::chrono::hours(1))) {
  }
}

}  // namespace millrace::worker
