// What a load saw: counts, latencies, and whether the books of the run balance.
// Shape:   hears the session's events; print_json() and print_text() at the end
// Units:   latencies are counted in microseconds and printed in milliseconds
// Threads: one thread
#pragma once

#include <functional>
#include <vector>

#include "common/histogram.h"
#include "producer/load_payload.h"
#include "producer/schedule.h"
#include "producer/session/listener.h"

namespace millrace::producer {

class LoadReport : public Listener {
 public:
  // `clock` gives the moment at which an event's message had arrived. With `compare` each result is
  // compared with the payload that was sent, as the handler echo returns it.
  LoadReport(const Schedule& schedule, std::function<Mono()> clock, LoadPayload* compare)
      : schedule_(schedule), clock_(std::move(clock)), compare_(compare) {}

  struct Totals {
    uint64_t sent = 0;     // submissions made
    uint64_t unknown = 0;  // of these without an answer
    uint64_t awaited = 0;  // confirmed jobs without an end at the time-out
    double seconds = 0;
    double submit_seconds = 0;
    bool waited = false;  // for outcomes
  };
  void finish(const Totals& totals) { totals_ = totals; }

  uint64_t confirmed() const { return confirmed_; }
  uint64_t ended() const { return completed_ + dead_ + dropped_ + unknown_to_broker_; }
  uint64_t lost() const;
  // Nothing lost, dead, contradicted or left over, and all that was told in the verification fits.
  bool good() const;
  void print_json() const;
  void print_text() const;

  // The jobs that were confirmed, to be verified.
  const std::vector<protocol::JobRange>& jobs() const { return jobs_; }
  void verifying() { verified_ = true; }

  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override { rejected_ += event.seqs.count; }
  void ended(const Ended& event) override;
  void told(protocol::JobRange jobs, protocol::JobState state) override;
  void contradicted(SeqRange seqs, JobId) override { duplicates_ += seqs.count; }

 private:
  void record(Histogram& histogram, SeqRange seqs);
  bool balanced() const;

  const Schedule& schedule_;
  std::function<Mono()> clock_;
  LoadPayload* compare_;
  Totals totals_;
  Histogram confirm_us_;
  Histogram latency_us_;
  std::vector<protocol::JobRange> jobs_;
  uint64_t confirmed_ = 0, buffered_ = 0, known_ = 0, rejected_ = 0;
  uint64_t completed_ = 0, dead_ = 0, unknown_to_broker_ = 0;
  uint64_t dropped_ = 0;  // cancelled or expired
  uint64_t duplicates_ = 0, mismatched_ = 0;
  bool verified_ = false;
  uint64_t told_done_ = 0, told_dead_ = 0, told_dropped_ = 0, told_live_ = 0, told_missing_ = 0;
};

}  // namespace millrace::producer
