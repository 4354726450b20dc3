// The hand-over of a Status from the core's thread to the HTTP thread, made only when asked for.
// Shape:   request() → wake() → the core's loop sees wanted() → publish() → request() returns
//          1. A fresh answer was published after its request had begun.
//          2. While the core is silent, only the first to ask waits: the others' time has run since
//             then, so no crowd of requests can hold the HTTP thread.
// Owns:    the last snapshot; what wake refers to must outlive the requests
// Threads: wanted and publish: the core's. The rest: any. Internally locked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "broker/admin/status.h"
#include "common/base/time.h"

namespace millrace::admin {

struct Snapshot {
  std::shared_ptr<const Status> status;  // the last one published; null if there is none
  bool fresh = false;                    // published for this request
};

class StatusPublisher {
 public:
  // `wake` wakes the core, from any thread.
  explicit StatusPublisher(std::function<void()> wake) : wake_(std::move(wake)) {}

  Snapshot request(Millis timeout) {
    std::unique_lock lock(mutex_);
    if (closed_) return {last_, false};
    const uint64_t before = published_;
    if (!wanted_.exchange(true)) asked_ = Mono::clock::now();
    const Mono until = asked_ + timeout;
    lock.unlock();
    wake_();
    lock.lock();
    changed_.wait_until(lock, until, [&] { return published_ != before || closed_; });
    return {last_, published_ != before};
  }

  bool wanted() const { return wanted_.load(std::memory_order_relaxed); }

  // At any time; before the core's loop runs, so that requests find a state at once.
  void publish(Status status) {
    auto snapshot = std::make_shared<const Status>(std::move(status));
    std::lock_guard lock(mutex_);
    last_ = std::move(snapshot);
    ++published_;
    wanted_ = false;
    changed_.notify_all();
  }

  // Ends all waiting, now and later: the core will not publish any more.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  const std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Status> last_;
  uint64_t published_ = 0;
  Mono asked_{};  // when the request that is wanted was first made
  bool closed_ = false;
  std::atomic<bool> wanted_ = false;
};

}  // namespace millrace::admin
