// Planted faults: bugs that the simulator must find, to prove that it can find bugs. They live in
// what the simulator puts around the real code; production code knows nothing of them.
// Threads: immutable
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace millrace::sim {

enum class Mutation : uint8_t {
  none,
  // The broker's loop and journal
  confirm_before_sync,
  lose_record,
  retire_early,
  old_checkpoint,
  forget_dedupe,
  drop_last_batch,
  no_grace,
  drop_claim,
  impatient,
  patient,
  credit_leak,
  credit_lost,
  accept_stale_epoch,
  lost_wakeup,
  ignore_extend,
  lease_time_lost,
  wrong_job,
  wrong_payload,
  lose_reads,
  done_without_result,
  grant_twice,
  drop_outcome,
  result_lost,
  forget_results,
  cancel_lost,
  release_lost,
  skip_dispatch,
  ignore_pause,
  ignore_concurrency,
  ignore_rate,
  ignore_max_length,
  ignore_fair,
  ignore_weight,
  high_queued_mark,
  low_queued_mark,
  high_memory_mark,
  low_memory_mark,
  low_disk_mark,
  forget_ttl,
  early_due,
  forget_keys,
  wrong_priority,
  crash_is_failure,
  charge_waiting,
  // The disk
  sync_lies,
  // The worker
  ignore_done_ok,
  forget_completions,
  new_claim_epoch,
  // The producer
  resend_as_new,
  floor_too_high,
};

struct MutationInfo {
  Mutation mutation;
  std::string_view name;
  std::string_view what;
};

std::span<const MutationInfo> all_mutations();
std::optional<Mutation> parse_mutation(std::string_view name);
std::string_view name_of(Mutation mutation);

}  // namespace millrace::sim
