// A producer in a thread of its own: many threads hand submissions over, one speaks with the
// brokers, so that all of them share its batches and its window. The C++ library and the gateway
// are made of it.
// Shape:   submit() and look_up() in; out come events, in one call for all of a turn
//          1. Batches form while the broker is busy with those before; nothing waits on a timer.
//          2. After a reconnect what is unanswered is sent again: it makes no second job.
//          3. Each submission that was taken gets its events, at the latest by stop().
// Limits:  RunnerOptions::max_jobs and max_bytes, of what has not been answered by the broker:
//          beyond them submit() says no
// Errors:  what ends the client (producer/client/client.h) is given to `failed`; after that nothing is
//          taken
// Owns:    the thread, the client; what the callbacks refer to must outlive stop()
// Threads: start and stop by one; submit, look_up and what asks how it stands by any; callbacks come from
//          the runner's own thread, and must not wait
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "common/os/wakeup.h"
#include "producer/client/client.h"
#include "producer/runner/tickets.h"

namespace millrace::producer {

// What becomes of a submission while no broker is connected and no spool takes it.
enum class WhenUnreachable {
  hold,    // it waits
  refuse,  // it is answered: away
};

struct RunnerOptions {
  ClientOptions client;
  WhenUnreachable when_unreachable = WhenUnreachable::hold;
  uint64_t max_jobs = 1 << 16;
  uint64_t max_bytes = 64 << 20;
};

class Runner {
 public:
  using Events = std::vector<Event>;
  struct Callbacks {
    std::function<void(Events)> events;
    std::function<void(const Error&)> failed = [](const Error&) {};
    // A broker, by its place in the list, is connected or lost.
    std::function<void(size_t, bool)> link = [](size_t, bool) {};
  };

  static Result<std::unique_ptr<Runner>> start(RunnerOptions options, Callbacks callbacks);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // False: there is no room, or the runner has ended; then nothing was taken, nor moved from.
  [[nodiscard]] bool submit(Submission&& submission);
  // All or none.
  [[nodiscard]] bool submit(std::vector<Submission>&& submissions);
  [[nodiscard]] bool look_up(LookUp look_up);
  // Nobody waits for its events any more: none are made from the runner's next turn on.
  void forget(Token token);

  bool ended() const;  // or ends
  std::thread::id thread_id() const { return thread_.get_id(); }
  // To one broker at least.
  bool connected() const { return connected_.load(std::memory_order_relaxed) > 0; }
  size_t connections() const { return connected_.load(std::memory_order_relaxed); }
  // A submission that came now would find a broker, or room in the spool.
  bool takes() const { return takes_.load(std::memory_order_relaxed); }
  // SpoolRoom::some without a spool.
  SpoolRoom spool_room() const { return spool_room_.load(std::memory_order_relaxed); }
  struct Broker {
    BrokerId id;  // 0 before it has answered once
    bool connected = false;
    bool operator==(const Broker&) const = default;
  };
  std::vector<Broker> brokers() const;      // in the order of the options
  std::optional<SpoolLevel> spool() const;  // nothing: there is none
  // Taken, and not answered by the broker.
  uint64_t open_jobs() const;

  // Takes nothing more, and returns when everything has its events, or the time is over: then what
  // is left is unknown, or expired. Jobs whose end is waited for count, if `ends` says so. Once is
  // enough.
  void stop(Millis timeout, bool ends = false);

 private:
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<LookUp> look_ups;
    std::set<Token> forgotten;
    uint64_t bytes = 0;
  };

  Runner(RunnerOptions options, Callbacks callbacks);
  bool has_room(uint64_t jobs, uint64_t bytes) const;
  void run();
  bool turn();
  void feed(std::vector<Submission> submissions);
  void ask(const std::vector<LookUp>& look_ups);
  std::optional<size_t> place_of(const Submission& submission);
  void give(size_t broker, const Submission& submission);
  void refuse(Token token);
  SpoolRoom look_at_spool();
  bool finished();
  void deliver();
  void publish();
  void end();
  uint64_t sum(uint64_t (Tickets::*figure)() const) const;
  Mono wake_at() const;

  const RunnerOptions options_;
  const Callbacks callbacks_;
  std::deque<Tickets> tickets_;      // of each broker
  std::vector<Submission> waiting_;  // for a broker, if they are to be held
  uint64_t waiting_bytes_ = 0;
  std::unique_ptr<Client> client_;
  Wakeup wakeup_;

  mutable std::mutex lock_;  // of all that follows, up to the atomics
  Inbox inbox_;
  bool closed_ = false;
  struct Stop {
    Mono by = Mono::max();
    bool asked = false, ends = false;
  } stop_;

  // Out of the inbox, and not answered by the broker.
  uint64_t open_jobs_ = 0;
  uint64_t open_bytes_ = 0;
  std::vector<Broker> brokers_;  // its own thread alone writes, and may read without the lock
  std::optional<SpoolLevel> spool_;

  std::atomic<size_t> connected_{0};
  std::atomic<bool> takes_{false};
  std::atomic<SpoolRoom> spool_room_{SpoolRoom::some};
  std::thread thread_;
};

}  // namespace millrace::producer
