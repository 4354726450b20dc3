// The hand-over of operations from the HTTP thread to the core's thread, and of answers back.
// Shape:   ask() → wake() → the core's loop: take() → … durable … → answer() → ask() returns
//          1. What the core has not taken when the time is over is withdrawn: it is never done.
//          2. What it has taken may still be done; the asker is told that it is not known.
//          3. What takes long is accepted() first: after kLongWait its asker goes away with that answer.
//          4. While something is overdue, others are refused at once: a silent core, or a journal
//             that doesn't commit, can't make a crowd of requests hold the HTTP thread.
// Limits:  as many requests as there are threads that ask, and the overdue ones
// Owns:    the requests; what wake refers to must outlive the requests
// Threads: take and answer: the core's. The rest: any. Internally locked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "broker/admin/operation.h"

namespace millrace::admin {

struct AdminRequest {
  uint64_t number = 0;
  Operation operation;
};

class AdminQueue {
 public:
  // Short: the HTTP thread has other requests to answer.
  static constexpr Millis kLongWait{500};
  enum class Outcome { answered, not_done, unknown };
  struct Reply {
    Outcome outcome = Outcome::not_done;
    Answer answer;  // if answered
    std::function<Answer()> make;
  };

  // `wake` wakes the core, from any thread.
  explicit AdminQueue(std::function<void()> wake) : wake_(std::move(wake)) {}

  // `long_wait`: for what is accepted only.
  Reply ask(Operation operation, Millis timeout, Millis long_wait = kLongWait) {
    std::unique_lock lock(mutex_);
    if (closed_) return {};
    if (silent_ || overdue_ > 0) {
      lock.unlock();
      wake_();
      return {};
    }
    const uint64_t number = ++last_number_;
    Post& post = posts_[number];  // a map's elements stay where they are
    post.operation = std::move(operation);
    wanted_ = true;
    lock.unlock();
    wake_();
    lock.lock();
    auto answered = [&] { return post.answer.has_value() || closed_; };
    changed_.wait_for(lock, timeout, [&] { return answered() || post.accepted.has_value(); });
    if (post.accepted && long_wait.count() == 0) post.answer = std::move(post.accepted);
    if (post.accepted && !post.answer) changed_.wait_for(lock, long_wait, answered);
    Reply reply = conclude(number, post);
    lock.unlock();
    if (reply.make) reply.answer = reply.make();
    return reply;
  }

  // What has been asked for since the last call.
  std::vector<AdminRequest> take() {
    if (!wanted_.load(std::memory_order_relaxed) && !silent_.load(std::memory_order_relaxed))
      return {};
    std::lock_guard lock(mutex_);
    std::vector<AdminRequest> requests;
    for (auto& [number, post] : posts_) {
      if (std::exchange(post.taken, true)) continue;
      requests.push_back({number, std::move(post.operation)});
    }
    wanted_ = false;
    silent_ = false;
    return requests;
  }

  // It will be answered later; this is the answer for those who do not wait.
  void accepted(uint64_t number, Answer answer) {
    std::lock_guard lock(mutex_);
    auto post = posts_.find(number);
    if (post == posts_.end() || post->second.abandoned) return;
    post->second.accepted = std::move(answer);
    changed_.notify_all();
  }

  // `make` makes the answer in the asker's thread: for what takes too long in the core's.
  void answer(uint64_t number, std::function<Answer()> make) {
    answer(number, {}, std::move(make));
  }
  void answer(uint64_t number, Answer answer, std::function<Answer()> make = nullptr) {
    std::lock_guard lock(mutex_);
    auto post = posts_.find(number);
    if (post == posts_.end()) return;
    if (post->second.abandoned) {
      --overdue_;
      posts_.erase(post);
      return;
    }
    post->second.answer = std::move(answer);
    post->second.make = std::move(make);
    changed_.notify_all();
  }

  // Ends all waiting, now and later: the core will not answer any more.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  struct Post {
    Operation operation;
    bool taken = false;
    bool abandoned = false;  // its asker has gone
    std::optional<Answer> accepted, answer;
    std::function<Answer()> make;
  };

  // Under the lock.
  Reply conclude(uint64_t number, Post& post) {
    if (!post.answer) post.answer = std::move(post.accepted);
    if (!post.answer && post.taken) {
      post.abandoned = true;
      ++overdue_;
      return {Outcome::unknown, {}, nullptr};
    }
    Reply reply;
    if (post.answer) {
      reply = {Outcome::answered, *std::move(post.answer), std::move(post.make)};
    } else {
      silent_ = true;
    }
    posts_.erase(number);
    return reply;
  }

  const std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Post> posts_;  // by number: the core takes them in order
  uint64_t last_number_ = 0;
  uint64_t overdue_ = 0;
  bool closed_ = false;
  std::atomic<bool> silent_ = false;  // a request was withdrawn, and the core has not come since
  std::atomic<bool> wanted_ = false;
};

}  // namespace millrace::admin
