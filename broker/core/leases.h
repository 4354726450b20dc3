// What workers say of the jobs that they are leased, and how leases end: done, failed, given back,
// run out, or lost with their worker.
// Shape:   claims at REGISTER → adopt_claims(); DONE, FAIL, RELEASE, EXTEND → on(); close() when the
//          worker's session is closed; tick() for leases that run out and for the grace window
//          1. Only the session of a lease's worker ends it, by its epoch.
//          2. What may have run is charged to a job, what only waited at its worker is not.
// Limits:  kMaxLeasesOfWorker; Settings::max_attempts and crash_limit, then a job is dead
// Threads: one
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "broker/core/dispatch/dispatcher.h"
#include "broker/core/outcomes/operations.h"
#include "broker/core/outcomes/outcomes.h"

namespace millrace::core {

class Leases {
 public:
  Leases(Context& context, Sessions& sessions, Outcomes& outcomes, Operations& operations,
         Dispatcher& dispatcher)
      : context_(context),
        state_(context.state),
        settings_(context.settings),
        sessions_(sessions),
        outcomes_(outcomes),
        operations_(operations),
        dispatcher_(dispatcher) {}

  void begin();  // opens the grace window
  void tick(Mono::duration late, Output& out);
  // Keeps what the worker still holds, gives back what never reached it; returns the stale claims.
  std::vector<Lease> adopt_claims(Session& session, const std::vector<Lease>& claims, Output& out);
  // A session that was closed: what its worker held goes back, unless its successor claims it
  // (never_arrived).
  void close(const Session& session, records::ReturnReason reason, Output& out);

  void on(Session& session, const protocol::Credit& message, Output& out);
  void on(Session& session, const protocol::Done& message, Output& out);
  void on(Session& session, const protocol::Fail& message, Output& out);
  void on(Session& session, const protocol::Release& message, Output& out);
  void on(Session& session, const protocol::Extend& message, Output& out);

 private:
  // Leases that ended otherwise than by their worker's word: those up to this epoch may have been
  // started, the others only waited there.
  struct LostLeases {
    std::vector<Lease> started, waited;
    void add(Lease lease, Epoch last_started) {
      (lease.epoch <= last_started ? started : waited).push_back(lease);
    }
  };

  bool holds(const Session& session, Lease lease) const;
  bool may_still_finish(const Session& session, Lease lease) const;
  void finish(Session& session, const std::vector<protocol::Done::Entry>& jobs, uint64_t batch,
              Output& out);
  void fail(Session& session, const protocol::Fail::Entry& entry, Output& out,
            std::shared_ptr<const void> owner = nullptr);
  void fail_too_large(Session& session, const protocol::Done::Entry& entry,
                      std::vector<Lease>* stale, Output& out);
  Millis backoff(const records::QueueSettings& queue, uint32_t failures);
  void finish_batch(Session& session, uint64_t batch, std::vector<Lease> stale, Output& out);
  void charge(const LostLeases& leases, records::ReturnReason reason, std::string_view worker,
              Output& out);
  void return_leases(const std::vector<Lease>& leases, records::ReturnReason reason,
                     std::string_view worker, Output& out);
  // Up to which epoch the leases of a worker may have been started.
  Epoch last_started(WorkerIndex worker) const;
  void tick_expired(Mono::duration late, Output& out);
  Millis grace_period() const {
    return (2 * settings_.heartbeat * settings_.liveness + protocol::kLongestPause) /
           records::kGracePeriods;
  }
  void end_grace_period(Output& out);

  Context& context_;
  State& state_;
  const Settings& settings_;
  Sessions& sessions_;
  Outcomes& outcomes_;
  Operations& operations_;
  Dispatcher& dispatcher_;
  std::optional<Mono> grace_ends_;
  Mono next_grace_period_{};
};

}  // namespace millrace::core
