// What becomes of SUBMITs: accepted, known already, or rejected by a limit, with the time after
// which it is worth another try.
// Shape:   a SUBMIT → one Accepted record for each part that is accepted, one CONFIRM, one REJECT
// Limits:  those of Settings; above max_queued and max_memory a tenth more is open to producers that
//          hold little
// Errors:  each has a reason of docs/PROTOCOL.md
// Threads: one
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "broker/core/dispatch/queues.h"
#include "broker/core/high_water_mark.h"
#include "broker/core/session/sessions.h"

namespace millrace::core {

class Submissions {
 public:
  Submissions(Context& context, Sessions& sessions, Queues& queues)
      : context_(context),
        state_(context.state),
        settings_(context.settings),
        sessions_(sessions),
        queues_(queues),
        queued_mark_(settings_.max_queued),
        memory_mark_(settings_.max_memory) {}

  void set_disk_full(bool full) { disk_full_ = full; }
  void set_memory_short(bool is_short) { memory_short_ = is_short; }
  void begin();
  void tick();
  void on(Session& session, const protocol::Submit& message, Output& out);
  void on(Session& session, const protocol::Collected& message, Output& out);
  Held held() const { return {"submit_rates", rates_.size(), hash_map_bytes(rates_)}; }

 private:
  using Submit = protocol::Submit;
  struct AdmissionDecision;
  // With --submit-rate-per-producer: jobs that each may still submit of this second's.
  struct SubmitRate {
    double tokens = 0;
    Mono refilled{};
  };

  AdmissionDecision admit(const Session& session, const Submit& message, uint64_t index);
  AdmissionDecision floor_too_low(uint64_t count) const;
  AdmissionDecision admit_room(const Session& session, const Submit& message, uint64_t index,
                               uint64_t rest);
  AdmissionDecision too_many_queues(const Session& session, uint64_t rest) const;
  std::optional<AdmissionDecision> admit_quota(const Session& session, uint64_t rest,
                                               uint64_t* room);
  std::optional<AdmissionDecision> admit_limits(const Session& session, uint64_t rest,
                                                uint64_t* room);
  static std::vector<Account> submitters_of(const Session& session);
  uint64_t unfinished_of(const Session& session) const;
  double submit_tokens(const Session& session);
  void take_submit_tokens(const Session& session, uint64_t jobs);
  void measure_drain();
  Millis retry_after(uint64_t jobs) const;
  void make_room_for(const Uuid& producer, Output& out);
  void accept(const Session& session, const Submit& message, uint64_t first, uint64_t count,
              Output& out);

  Context& context_;
  State& state_;
  const Settings& settings_;
  Sessions& sessions_;
  Queues& queues_;
  bool disk_full_ = false, memory_short_ = false;
  HighWaterMark queued_mark_, memory_mark_;
  std::unordered_map<Account, SubmitRate> rates_;
  uint64_t ended_before_ = 0;  // jobs, at the last measurement
  Mono measured_{};
  double drain_rate_ = 0;  // jobs ended a second, smoothed
};

}  // namespace millrace::core
