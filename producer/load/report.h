// What one producer of a load saw: counts, latencies, and whether the totals of the run reconcile;
// and the same of several together.
// Shape:   hears the session's events; counts() at the end
// Units:   latencies are counted in microseconds, from the intended send time
// Threads: one thread
#pragma once

#include <functional>
#include <vector>

#include "common/metrics/histogram.h"
#include "producer/load/meter.h"
#include "producer/load/payload.h"
#include "producer/load/schedule.h"
#include "producer/session/listener.h"

namespace millrace::producer {

struct LoadCounts {
  uint64_t sent = 0;         // submissions made
  uint64_t unknown = 0;      // of these without an answer
  uint64_t outstanding = 0;  // confirmed jobs without an end at the time-out
  bool waited = false;       // for outcomes
  bool compared = false;
  bool verified = false;

  uint64_t confirmed = 0, buffered = 0, known = 0, rejected = 0;
  uint64_t completed = 0, dead = 0, unknown_to_broker = 0;
  uint64_t dropped = 0;  // cancelled or expired
  uint64_t duplicates = 0, mismatched = 0;
  uint64_t told_done = 0, told_dead = 0, told_dropped = 0, told_live = 0, told_missing = 0;
  // What was meant to be sent in the warm-up is not in these.
  uint64_t measured_confirmed = 0, measured_completed = 0;
  Histogram confirm_us;
  Histogram latency_us;

  uint64_t ended() const { return completed + dead + dropped + unknown_to_broker; }
  // Jobs that the verification found missing may be among those that ended.
  uint64_t lost() const;
  bool balanced() const;
  // Nothing lost, dead, contradicted or left over, and all that was told in the verification fits.
  bool good() const;
  // Of another producer. Where one's books don't balance, the sum's do not.
  void add(const LoadCounts& other);

 private:
  bool others_balanced_ = true;
};

class LoadReport : public Listener {
 public:
  // `clock` gives the moment at which an event's message had arrived. With `compare` each result is
  // compared with the payload that was sent, as the handler echo returns it.
  LoadReport(const Schedule& schedule, std::function<Mono()> clock, LoadPayload* compare)
      : schedule_(schedule), clock_(std::move(clock)), compare_(compare) {
    counts_.compared = compare != nullptr;
  }

  struct Totals {
    uint64_t sent = 0;
    uint64_t unknown = 0;
    uint64_t outstanding = 0;
    bool waited = false;
  };
  void finish(const Totals& totals);
  const LoadCounts& counts() const { return counts_; }
  LoadMeter& meter() { return meter_; }

  // The jobs that were confirmed, to be verified.
  const std::vector<JobsAt>& jobs() const { return jobs_; }
  void verifying() { counts_.verified = true; }

  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void ended(const Ended& event) override;
  void told(protocol::JobRange jobs, protocol::JobState state) override;
  void contradicted(SeqRange seqs, JobId) override { counts_.duplicates += seqs.count; }

 private:
  uint64_t record(SeqRange seqs, Histogram& all, Histogram& interval) const;

  const Schedule& schedule_;
  std::function<Mono()> clock_;
  LoadPayload* compare_;
  LoadCounts counts_;
  LoadMeter meter_;
  std::vector<JobsAt> jobs_;
};

}  // namespace millrace::producer
