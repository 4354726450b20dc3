#include "worker/pool/fixed_pool.h"

#include <algorithm>

#include "common/base/time.h"

namespace millrace::worker {

namespace {

constexpr double kMeanMemory = 16;  // jobs

}  // namespace

FixedPool::FixedPool(PoolSetup setup, size_t threads) : ThreadPool(std::move(setup), threads) {
  resize(threads, "start");
}

void FixedPool::resize(size_t threads, std::string_view why) {
  std::lock_guard lock(lock_);
  wanted_ = threads;
  while (live_ < wanted_ && !ending_) {
    size_t before = live_;
    replace();
    if (live_ == before) break;  // the system has no more
  }
  if (live_ > wanted_) arrived_.notify_all();
  note_size(why);
}

PoolLoad FixedPool::load(Mono now) const {
  std::lock_guard lock(lock_);
  PoolLoad load{busy(now), waiting_.waited(now), {}};
  for (auto& worker_thread : worker_threads_) {
    if (!worker_thread->retired) load.threads.push_back(worker_thread->tid);
  }
  return load;
}

void FixedPool::replace() { start(std::make_unique<QueuedThread>(next_queue())); }

void FixedPool::submit(std::vector<Job> jobs) {
  received(jobs);
  size_t wake;
  {
    std::lock_guard lock(lock_);
    wake = std::min(idle_, jobs.size());
    waiting_.push(std::move(jobs));
  }
  for (; wake > 0; --wake) arrived_.notify_one();
}

void FixedPool::work(WorkerThread& worker_thread) {
  auto& bench = static_cast<QueuedThread&>(worker_thread);
  Mono now = read_clock();
  while (refill(bench, now)) {
    now = read_clock();
    size_t at = 0;  // the first is ours from refill() on, so that each refill gets a job done
    do {
      if (!gate_.is_open(now)) {
        put_back(bench, at);
        break;
      }
      bench.since.store(now.time_since_epoch().count(), std::memory_order_relaxed);
      Job job = std::move(bench.jobs[at]);
      Mono ended = run(bench, job, now);
      bench.mean_run_ns += (double((ended - now).count()) - bench.mean_run_ns) / kMeanMemory;
      now = ended;
    } while ((at = bench.next.fetch_add(1)) < bench.count);
  }
}

bool FixedPool::refill(QueuedThread& bench, Mono now) {
  std::unique_lock lock(lock_);
  take_back(now - kSlow);
  if (waiting_.empty()) take_back();
  ++idle_;
  arrived_.wait(lock, [&] { return leaves(bench) || (!waiting_.empty() && may_take()); });
  --idle_;
  if (leaves(bench)) {
    leave(bench);
    if (!waiting_.empty()) arrived_.notify_one();  // it may have been meant for us
    return false;
  }
  size_t count = share(bench);
  for (size_t i = 0; i < count; ++i) bench.jobs[i] = waiting_.pop();
  bench.count = count;
  bench.since.store(std::numeric_limits<Mono::rep>::max(), std::memory_order_relaxed);
  bench.next.store(1);
  return true;
}

size_t FixedPool::share(const QueuedThread& bench) const {
  bool tiny = bench.mean_run_ns > 0 && bench.mean_run_ns < double(kTiny.count());
  if (!tiny) return 1;
  size_t threads = std::max<size_t>(live_, 1);
  return std::min(kBench, (waiting_.size() + threads - 1) / threads);
}

void FixedPool::take_back(Mono started) {
  for (auto& worker_thread : worker_threads_) {
    auto& bench = static_cast<QueuedThread&>(*worker_thread);
    if (bench.since.load(std::memory_order_relaxed) > started.time_since_epoch().count()) continue;
    take_back(bench);
  }
}

void FixedPool::take_back(QueuedThread& bench) {
  size_t next = bench.next.exchange(kBench);
  for (size_t at = bench.count; at > next; --at) waiting_.push_front(std::move(bench.jobs[at - 1]));
}

// Of the owner: the job that it was about to run, and those behind it.
void FixedPool::put_back(QueuedThread& bench, size_t at) {
  std::lock_guard lock(lock_);
  take_back(bench);
  waiting_.push_front(std::move(bench.jobs[at]));
}

}  // namespace millrace::worker
