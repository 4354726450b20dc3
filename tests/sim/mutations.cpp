#include "tests/sim/mutations.h"

#include <algorithm>
#include <array>

namespace millrace::sim {
namespace {

constexpr MutationInfo kMutations[] = {
    {Mutation::confirm_before_sync, "confirm-before-sync",
     "messages leave when their records are handed to the journal"},
    {Mutation::lose_record, "lose-record", "one record in 50 is not written"},
    {Mutation::retire_early, "retire-early", "segments are retired though live jobs stand in them"},
    {Mutation::old_checkpoint, "old-checkpoint",
     "a segment begins with the Checkpoint of the one before"},
    {Mutation::forget_dedupe, "forget-dedupe", "a restart forgets which sequences became jobs"},
    {Mutation::drop_last_batch, "drop-last-batch",
     "recovery takes the last valid batch for a torn one"},
    {Mutation::no_grace, "no-grace", "a restart gives all leases to others at once"},
    {Mutation::drop_claim, "drop-claim", "the last claim of a REGISTER is not read"},
    {Mutation::impatient, "impatient", "a peer is gone one heartbeat too early"},
    {Mutation::patient, "patient", "a peer is gone one heartbeat too late"},
    {Mutation::credit_leak, "credit-leak", "CREDIT is added to what was granted before"},
    {Mutation::credit_lost, "credit-lost", "the first CREDIT after a re-registration is lost"},
    {Mutation::accept_stale_epoch, "accept-stale-epoch",
     "a DONE counts for the job's current lease, whatever its epoch"},
    {Mutation::lost_wakeup, "lost-wakeup", "the clock that makes retries due stands still"},
    {Mutation::ignore_extend, "ignore-extend", "EXTEND is not read"},
    {Mutation::lease_time_lost, "lease-time-lost",
     "a LEASE does not say how long its queue's leases last"},
    {Mutation::wrong_job, "wrong-job", "a resend is confirmed as the next job"},
    {Mutation::wrong_payload, "wrong-payload", "a payload that is read back begins one byte late"},
    {Mutation::lose_reads, "lose-reads", "one payload in 5 that is read back never arrives"},
    {Mutation::done_without_result, "done-without-result", "the results of a Done are not written"},
    {Mutation::grant_twice, "grant-twice", "one LEASE in 50 goes to a second worker too"},
    {Mutation::drop_outcome, "drop-outcome", "one OUTCOME in 10 is not sent"},
    {Mutation::result_lost, "result-lost", "one OUTCOME in 10 comes without its result"},
    {Mutation::forget_results, "forget-results",
     "results go with the segment of their job, collected or not"},
    {Mutation::cancel_lost, "cancel-lost", "one Cancelled record in 10 is not written"},
    {Mutation::release_lost, "release-lost", "RELEASE is not read"},
    {Mutation::skip_dispatch, "skip-dispatch", "one round in 50 gives out no leases"},
    {Mutation::ignore_pause, "ignore-pause", "a paused queue gives out leases"},
    {Mutation::ignore_concurrency, "ignore-concurrency",
     "a queue's limit of leases at a time is not looked at"},
    {Mutation::ignore_rate, "ignore-rate", "a queue's rate is not looked at"},
    {Mutation::ignore_max_length, "ignore-max-length",
     "a queue's greatest length is not looked at"},
    {Mutation::ignore_fair, "ignore-fair", "a fair queue is served in the order of acceptance"},
    {Mutation::ignore_weight, "ignore-weight", "a queue's weight is not looked at"},
    {Mutation::high_queued_mark, "high-queued-mark", "--max-queued is a tenth higher"},
    {Mutation::low_queued_mark, "low-queued-mark",
     "--max-queued is a tenth lower, so that it is shut below nine tenths"},
    {Mutation::high_memory_mark, "high-memory-mark", "--max-memory is a tenth higher"},
    {Mutation::low_memory_mark, "low-memory-mark",
     "--max-memory is a tenth lower, so that it is shut below nine tenths"},
    {Mutation::low_disk_mark, "low-disk-mark",
     "--disk-reserve is a fifth lower, so that new jobs are accepted again at once"},
    {Mutation::forget_ttl, "forget-ttl", "the TTL of a submission is not read"},
    {Mutation::early_due, "early-due", "what is due in the next two seconds is due now"},
    {Mutation::forget_keys, "forget-keys", "a restart forgets idempotency keys"},
    {Mutation::wrong_priority, "wrong-priority", "the priority of a submission is not read"},
    {Mutation::crash_is_failure, "crash-is-failure",
     "an attempt that crashed is counted as one that failed"},
    {Mutation::charge_waiting, "charge-waiting",
     "all jobs of a lost worker are taken for running ones"},
    {Mutation::sync_lies, "sync-lies", "the disk says that it has synced, and has not"},
    {Mutation::ignore_done_ok, "ignore-done-ok", "the worker does not read one DONE_OK in 20"},
    {Mutation::forget_completions, "forget-completions",
     "the worker claims only what still runs, and resends nothing"},
    {Mutation::new_claim_epoch, "new-claim-epoch",
     "the worker claims its jobs under the next epoch"},
    {Mutation::resend_as_new, "resend-as-new", "the producer resends under new sequences"},
    {Mutation::floor_too_high, "floor-too-high",
     "the producer declares unanswered sequences answered"},
};

}  // namespace

std::span<const MutationInfo> all_mutations() { return kMutations; }

std::optional<Mutation> parse_mutation(std::string_view name) {
  auto found = std::find_if(std::begin(kMutations), std::end(kMutations),
                            [&](const auto& m) { return m.name == name; });
  if (found == std::end(kMutations)) return std::nullopt;
  return found->mutation;
}

std::string_view name_of(Mutation mutation) {
  auto found = std::find_if(std::begin(kMutations), std::end(kMutations),
                            [&](const auto& m) { return m.mutation == mutation; });
  return found == std::end(kMutations) ? "none" : found->name;
}

}  // namespace millrace::sim
