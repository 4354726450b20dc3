// What the state holds in memory, by kind.
#include "broker/core/state/state.h"

namespace millrace::core {
namespace {

// In the order of time, and by job.
template <typename Times, typename ByJob>
uint64_t timer_bytes(const Times& times, const ByJob& by_job) {
  return times.size() * kTreeNodeBytes<typename Times::value_type> + by_job.memory_bytes();
}

}  // namespace

uint64_t State::job_bytes() const {
  return jobs_.memory_bytes() + ready_bytes_ + dead_.memory_bytes() + timer_bytes(due_, due_of_) +
         timer_bytes(expiries_, expiry_of_) + hash_map_bytes(last_leases_) +
         leases_.memory_bytes() + hash_map_bytes(failures_) + suspect_bytes_ +
         suspects_.size() * kTreeNodeBytes<decltype(suspects_)::value_type>;
}

std::vector<Held> State::held() const {
  const uint64_t result_nodes = kTreeNodeBytes<decltype(results_)::value_type> +
                                kTreeNodeBytes<decltype(result_order_)::value_type>;
  const uint64_t workers = workers_.capacity() * sizeof(Worker) + hash_map_bytes(worker_names_) +
                           absent_.size() * kTreeNodeBytes<decltype(absent_)::value_type>;
  return {
      {"jobs", jobs_.size(), jobs_.memory_bytes() + ready_bytes_ + dead_.memory_bytes()},
      {"timers", due_.size() + due_of_.size() + expiries_.size() + expiry_of_.size(),
       timer_bytes(due_, due_of_) + timer_bytes(expiries_, expiry_of_)},
      {"leases", leases_.size(), leases_.memory_bytes()},
      {"last_leases", last_leases_.size(), hash_map_bytes(last_leases_)},
      {"attempts", attempt_count_, hash_map_bytes(failures_) + attempt_bytes_},
      {"history", history_runs(),
       done_.memory_bytes() + cancelled_.memory_bytes() + expired_.memory_bytes()},
      {"producers", producers_.size(), producers_.memory_bytes()},
      {"sequences", producers_.run_count(), producers_.run_memory_bytes()},
      {"keys", key_order_.size(), key_bytes_},
      {"results", results_.size(), result_memory_bytes_ + results_.size() * result_nodes},
      {"queues", queue_count(), queue_bytes()},
      {"workers", worker_names_.size(), workers},
      {"completions", kWinners, kWinners * sizeof(Winner)},
  };
}

}  // namespace millrace::core
