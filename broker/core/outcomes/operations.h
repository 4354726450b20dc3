// Jobs that end because somebody says so: CANCEL, and the operations of people that concern many
// jobs (purge a queue, retry or drop the dead).
// Shape:   cancel() at once; start() → a slice in each advance(), in turn with the other pending ones
// Limits:  BulkOperations::kMaxPending; Settings::bulk_slice jobs of a slice
// Threads: one
#pragma once

#include "broker/core/outcomes/bulk.h"
#include "broker/core/outcomes/outcomes.h"

namespace millrace::core {

class Operations {
 public:
  Operations(Context& context, Sessions& sessions, Outcomes& outcomes)
      : context_(context), state_(context.state), sessions_(sessions), outcomes_(outcomes) {}

  // Returns how many jobs it concerned.
  uint64_t cancel(const std::vector<JobRange>& jobs, Output& out);
  // A purge cancels all jobs of a queue that are not leased. Begins nothing, and returns null,
  // while too many operations are pending.
  const BulkOperation* start(BulkRequest request);
  void advance(Output& out);  // a slice of a pending one
  // A job that is dead only now is not meant by those that were asked for before.
  void job_died(JobId job) { pending_.died(job); }
  const BulkOperations& pending() const { return pending_; }
  Held held() const { return {"operations", pending_.pending(), pending_.memory_bytes()}; }

 private:
  void end_jobs(const std::vector<JobRange>& jobs, records::CancelReason reason, Output& out);
  std::vector<JobRange> purge_slice(BulkOperation& operation);
  std::vector<JobRange> dead_slice(BulkOperation& operation) const;
  bool is_meant(const BulkOperation& operation, JobId dead) const;

  Context& context_;
  State& state_;
  Sessions& sessions_;
  Outcomes& outcomes_;
  BulkOperations pending_;
};

}  // namespace millrace::core
