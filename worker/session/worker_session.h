// What a worker says to the broker, and what it remembers until the broker has confirmed it: the
// worker's half of docs/PROTOCOL.md, section 5, without socket, thread or clock.
// Shape:   opened, received, completed, tick, drain → Output: frames to send, jobs to start,
//          leases to forget
//          1. A job is claimed in each REGISTER from its LEASE until the DONE_OK of its end.
//          2. The end of a lease that is not held (stale, superseded, given back) is void.
//          3. An end is sent again after each WELCOME until it is confirmed, or listed as stale.
//          4. Jobs are handed to the pool in the order of their epochs, and the broker is told how many
//          threads it has: so it knows which jobs may have started when this worker vanishes.
//          5. While draining nothing is started: what arrives is released.
// Units:   monotonic time, passed in
// Limits:  a result above the broker's max_job_size becomes a permanent failure; an error is cut at
//          kMaxErrorText bytes; from kMaxUnconfirmed ends without an answer on, credit is 0, so
//          that a REGISTER can always claim everything. Leases above the credit that it ever gave,
//          which only a broken broker grants, are released, and above kMaxHeld passed over
// Errors:  std::bad_alloc from received(): what a LEASE has brought is forgotten, as if it had never
//          arrived; open another session, whose REGISTER does not claim it
// Threads: one thread
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "worker/job/job.h"
#include "worker/session/credit_policy.h"
#include "worker/session/held_jobs.h"
#include "worker/session/outbox.h"
#include "worker/session/queue_matcher.h"
#include "worker/session/thread_count.h"

namespace millrace::worker {

struct SessionSettings {
  Uuid worker;                      // of this process
  std::string name;                 // for people
  std::vector<std::string> queues;  // or prefixes, as "tenant.*"; Job::queue is an index into it
  uint64_t threads = 1;
  std::optional<uint64_t> prefetch;  // nothing: by measured run time
  std::vector<std::string> labels;   // for people
  Source source = 0;                 // of the jobs that it brings
};

// What the caller does next, in this order: send, hand to the pool, take back from the pool (what
// waits there must not start; what runs may go on, its end is void). Of `recall` the caller takes
// back what waits, and hands that to give_back(); what runs is none of its business.
struct Output {
  std::vector<std::string> frames;
  std::vector<Job> start;
  std::vector<protocol::Lease> forget;
  std::vector<protocol::Lease> recall;
  uint64_t above_credit = 0;  // leases that were not taken, since no credit allowed them

  bool empty() const { return frames.empty() && start.empty() && forget.empty() && recall.empty(); }
};

class WorkerSession {
 public:
  static constexpr uint64_t kMaxPrefetch = 16384;
  static constexpr size_t kMaxUnconfirmed = 32768;
  static constexpr size_t kMaxHeld = kMaxUnconfirmed + kMaxPrefetch;
  static_assert(kMaxHeld <= protocol::kMaxClaims);

  explicit WorkerSession(SessionSettings settings);

  // A socket was opened for this new session; or the connection was lost.
  void opened(SessionId session, Output* out);
  void closed() { welcomed_ = false; }

  // A message of the current session. Only WELCOME and those of section 5 have a meaning here;
  // `frame` holds the payloads of a LEASE.
  void received(const protocol::FromBroker& message, const FramePtr& frame, Mono now, Output* out);
  void completed(std::vector<Finished> finished, Output* out);
  // Extends what has been held for long. Call it when wake_at() has come, or more often.
  void tick(Mono now, Output* out);
  Mono wake_at() const { return welcomed_ ? sweep_at_ : Mono::max(); }

  // The pool has another number of threads now.
  void set_threads(uint64_t threads, Output* out);

  // Holds no more than this, whatever the jobs take; 0: what arrives is released.
  void set_limit(uint64_t jobs, Output* out);
  // What it would hold without a limit; and the most that it held since this was asked last.
  uint64_t demand() const { return credit_.credit(); }
  uint64_t take_peak();
  // How long the threads would work without another LEASE.
  std::chrono::nanoseconds work_ahead() const {
    return credit_.work_ahead(held_.size() - held_.finished());
  }

  // No new jobs; `waiting`, which the pool has given back unstarted, is released.
  void drain(const std::vector<protocol::Lease>& waiting, Output* out);
  // These have not been started, and are released.
  void give_back(const std::vector<protocol::Lease>& waiting, Output* out);
  // What runs has been told to stop: from now on a failure is released, since it is the stop's.
  void release_failures() { releases_failures_ = true; }
  // Releases what still runs.
  void give_up(Output* out);
  // Draining, and nothing is left to do, to send or to be confirmed: BYE may be sent.
  bool drained() const { return draining_ && held_.size() == 0; }

  // How often there was no memory to send the ends of jobs: they were released instead.
  uint64_t memory_shortages() const { return outbox_.shortages(); }
  // Bytes, of those that have come so far.
  uint64_t largest_payload() const { return largest_payload_; }

  bool welcomed() const { return welcomed_; }
  size_t held() const { return held_.size(); }
  size_t unconfirmed() const { return held_.finished(); }
  uint64_t credit() const { return credit_sent_; }
  uint64_t confirmed_total() const { return confirmed_total_; }
  bool draining() const { return draining_; }

 private:
  void on_welcome(const protocol::Welcome& welcome, Mono now, Output* out);
  void on_lease(const protocol::LeaseGrant& grant, const FramePtr& frame, Mono now, Output* out);
  void take_leases(const protocol::LeaseGrant& grant, const FramePtr& frame, Mono now, Output* out);
  void on_done_ok(const protocol::DoneOk& done_ok, Output* out);
  void drop(const std::vector<protocol::Lease>& stale, Output* out);
  void forget(const std::vector<protocol::Lease>& leases, Output* out);

  void settle(Finished finished);
  void release(const std::vector<protocol::Lease>& leases);
  uint64_t credit_now() const;
  // Sends what may go: ends, and a changed credit.
  void flush(Output* out);

  SessionSettings settings_;
  const QueueMatcher matcher_;
  HeldJobs held_;
  ThreadCount threads_;
  Outbox outbox_;
  CreditPolicy credit_;
  SessionId session_;
  BrokerId broker_;
  uint64_t max_result_ = protocol::kDefaultMaxJobSize;
  Millis lease_{30000};
  Mono sweep_at_{};
  bool welcomed_ = false;
  bool draining_ = false;
  bool releases_failures_ = false;
  uint64_t credit_sent_ = 0, threads_sent_ = 0;
  uint64_t largest_credit_ = 0;  // of all sessions
  uint64_t limit_ = kMaxPrefetch;
  uint64_t peak_ = 0;
  uint64_t confirmed_total_ = 0;
  uint64_t largest_payload_ = 0;
};

}  // namespace millrace::worker
