#include "worker/pool/worker_thread.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/time.h"
#include "common/base/units.h"
#include "common/os/memory_reserve.h"

namespace millrace::worker {

using protocol::Lease;
using std::chrono::nanoseconds;

namespace {

Completion guarded(Handler& handler, const JobContext& context) {
  const MemoryReserve::MayFail alone;
  try {
    return handler.run(context);
  } catch (const std::exception& error) {
    return Completion::failed(Completion::Kind::retryable,
                              fmt::format("the handler threw: {}", error.what()));
  } catch (...) {
    return Completion::failed(Completion::Kind::retryable,
                              "the handler threw something that is no std::exception");
  }
}

}  // namespace

bool lease_before(Lease a, Lease b) { return a.job != b.job ? a.job < b.job : a.epoch < b.epoch; }

void CompletionQueue::put(Finished end) {
  std::lock_guard lock(lock_);
  ends_.push_back(std::move(end));
}

void CompletionQueue::collect(std::vector<Finished>* all) {
  std::lock_guard lock(lock_);
  if (all->empty()) return all->swap(ends_);
  std::move(ends_.begin(), ends_.end(), std::back_inserter(*all));
  ends_.clear();
}

Mono WorkerThread::run(const Job& job, const QueueHandler& queue, Mono now, Boottime start_before,
                       const std::atomic<bool>& stopping) {
  {
    std::lock_guard lock(lock_);
    state_ = State::runs;
    lease_ = job.lease;
    broker_ = job.broker;
    source_ = job.source;
    since_ = now;
    waited_since_ = job.waits_since;
    ends_when_stopped_ = queue.handler->ends_when_stopped();
    if (stopping.load(std::memory_order_relaxed)) stop_.set();
  }
  Completion completion =
      guarded(*queue.handler, {job, job.queue_name, stop_, queue.queue, start_before});
  Mono ended = read_clock();
  bool in_time;
  {
    std::lock_guard lock(lock_);
    in_time = state_ == State::runs;
    if (state_ == State::expired) report_expired(ended);
    state_ = State::idle;
    busy_ += ended - now;
    if (stop_.is_set()) stop_.clear();
  }
  if (in_time)
    ends_.put({job.lease, std::move(completion), ended - now, now - job.waits_since, job.source});
  return ended;
}

void WorkerThread::stop(const std::vector<Lease>& leases, Source source) {
  std::lock_guard lock(lock_);
  if (state_ == State::runs && source_ == source &&
      std::binary_search(leases.begin(), leases.end(), lease_, lease_before))
    stop_.set();
}

void WorkerThread::stop() {
  std::lock_guard lock(lock_);
  if (state_ != State::idle) stop_.set();
}

bool WorkerThread::expire(Mono before, Mono now, Millis timeout) {
  std::lock_guard lock(lock_);
  if (state_ != State::runs || since_ > before) return false;
  state_ = State::expired;
  expired_at_ = now;
  timeout_ = timeout;
  stop_.set();
  if (!ends_when_stopped_) report_expired(now);
  return !ends_when_stopped_;
}

bool WorkerThread::give_up(Mono now) {
  std::lock_guard lock(lock_);
  if (state_ != State::expired) return false;
  report_expired(now);
  return true;
}

// Under lock_.
void WorkerThread::report_expired(Mono now) {
  state_ = State::reported;
  ends_.put({lease_,
             Completion::failed(Completion::Kind::retryable,
                                fmt::format("timed out: still running after {}, the worker's "
                                            "--run-timeout",
                                            format_duration(timeout_))),
             now - since_, since_ - waited_since_, source_});
}

std::optional<std::string> WorkerThread::stuck_since(Mono before) const {
  std::lock_guard lock(lock_);
  const bool is_over_time = state_ == State::expired || state_ == State::reported;
  if (!is_over_time || expired_at_ > before) return std::nullopt;
  return job_text(broker_, lease_.job);
}

bool WorkerThread::running() const {
  std::lock_guard lock(lock_);
  return state_ != State::idle;
}

nanoseconds WorkerThread::busy(Mono now) const {
  std::lock_guard lock(lock_);
  return state_ == State::idle ? busy_ : busy_ + std::max(now - since_, nanoseconds(0));
}

}  // namespace millrace::worker
