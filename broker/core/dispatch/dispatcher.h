// Who gets which job: queues in proportion to their weights and within their limits, the least
// loaded worker first; jobs that may end their worker are tried apart from each other.
// Shape:   what is known of a queue beside its state is its Flow: its audience, its share (pass), the
//          tokens of its rate
//          1. A queue that waits stands in its audience's waiting, and each audience in which one
//             waits has its first turn in first_turns_.
//          2. A queue that is held by its rate alone stands in throttled_, and nowhere else.
// Limits:  kGrantBytes of payloads to one worker in a dispatch; protocol::kTargetJobs in one LEASE
// Owns:    the flows; of their audiences one use each
// Threads: one
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "broker/core/dispatch/subscriptions.h"
#include "broker/core/session/sessions.h"

namespace millrace::core {

class Dispatcher {
 public:
  using PayloadSize = std::function<std::optional<uint64_t>(JobId)>;

  Dispatcher(Context& context, Sessions& sessions, Subscriptions& subscriptions)
      : context_(context),
        state_(context.state),
        settings_(context.settings),
        sessions_(sessions),
        subscriptions_(subscriptions) {}
  void set_payload_size(PayloadSize size) { payload_size_ = std::move(size); }

  void dispatch(Output& out);                       // grants what can be granted
  bool has_more() const { return more_to_grant_; }  // than was granted, but for kGrantBytes
  std::optional<Mono> wake_at() const;              // for the rate of a queue

  // Who subscribes to a queue; one use of the audience goes over to the dispatcher.
  void set_audience(QueueIndex queue, Subscriptions::Audience* audience);
  Subscriptions::Audience* audience_of(QueueIndex queue) const;  // null: nobody
  void remove(QueueIndex queue);                                 // the queue is about to go
  // One of its next leases is without prefetch.
  void lease_carefully(QueueIndex queue) { ++flow_of(queue).careful; }
  bool is_at_rate(QueueIndex queue) const;
  // How many jobs of this queue the worker may be leased now.
  uint64_t room(Session& worker, QueueIndex queue);

 private:
  struct Flow {
    Subscriptions::Audience* audience = nullptr;
    double pass = 0;    // jobs leased so far, divided by the weight
    double start = 0;   // the pass at which its last grant began
    double tokens = 0;  // of its rate: jobs that may be leased now
    Mono refilled{};
    bool waits = false;             // it is among its audience's waiting
    std::optional<Mono> throttled;  // held by its rate alone until then
    uint64_t careful = 0;           // so many of its next leases are without prefetch
  };

  Flow& flow_of(QueueIndex queue);
  static void join(Flow& flow, Subscriptions::Audience* audience);
  void place(QueueIndex queue);
  void displace(QueueIndex queue);
  void set_waiting(QueueIndex queue, bool waits);
  uint64_t allowance(QueueIndex queue);
  uint64_t dispatch_some(QueueIndex queue, bool alone, Output& out);
  void dispatch_suspects(Output& out);
  bool dispatch_suspect(QueueIndex queue, Output& out);
  Session* least_busy(Subscriptions::Audience& audience);
  bool takes_suspect(Session& worker);
  bool has_bytes_left(Session& worker);
  uint64_t credit_of(Session& worker);
  uint64_t fit_bytes(Session& worker, QueueIndex queue, uint64_t count);
  uint64_t count_fitting(const std::vector<JobRange>& runs, uint64_t* bytes) const;
  bool some_worker_has_room();
  Session* least_loaded(QueueIndex queue, uint64_t* candidates);
  Millis lease_time(QueueIndex queue) const;
  void grant(Session& session, QueueIndex queue, std::vector<JobRange> runs, uint64_t count,
             Output& out);

  Context& context_;
  State& state_;
  const Settings& settings_;
  Sessions& sessions_;
  Subscriptions& subscriptions_;
  PayloadSize payload_size_;                   // none: nothing is known of sizes
  std::deque<Flow> flows_;                     // by queue; begins anew with the process
  std::set<Subscriptions::Turn> first_turns_;  // of each audience in which queues wait
  std::set<std::pair<Mono, QueueIndex>> throttled_;
  // Passed over in the last round: their next payload was not there.
  std::vector<QueueIndex> reading_;
  QueueIndex suspect_queue_ = 0;  // that had the last turn
  uint64_t dispatches_ = 0;
  bool more_to_grant_ = false;
};

}  // namespace millrace::core
