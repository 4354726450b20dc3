// What the state and the core hold in memory, by kind.
#include "broker/core/core.h"

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

std::vector<Held> Core::held() const {
  std::vector<Held> all = state_.held();
  uint64_t sessions = hash_map_bytes(sessions_) + hash_map_bytes(session_of_) +
                      hash_map_bytes(sessions_on_) +
                      sessions_on_.size() * allocation_bytes(sizeof(SessionId));
  uint64_t queries = 0, query_bytes = 0;
  for (const auto& [id, session] : sessions_) {
    sessions += string_bytes(session.name) + deque_bytes(session.questions);
    for (const std::string& label : session.labels) sessions += sizeof(label) + string_bytes(label);
    queries += session.questions.size();
    for (const Question& question : session.questions) query_bytes += question.memory_bytes();
  }
  uint64_t reports = 0;
  for (const auto& [producer, outcome] : reports_)
    reports += outcome.entries.capacity() * sizeof(outcome.entries[0]);
  for (const std::string& text : report_texts_)
    reports += allocation_bytes(16 + sizeof(text)) + string_bytes(text);
  all.push_back({"reports", reports_.size(), hash_map_bytes(reports_) + reports});
  all.push_back({"sessions", sessions_.size(), sessions});
  all.push_back({"subscriptions", subscriptions_.count(), subscriptions_.memory_bytes()});
  all.push_back({"queries", queries, query_bytes});
  all.push_back({"operations", operations_.pending(), operations_.memory_bytes()});
  all.push_back({"submit_rates", submit_rates_.size(), hash_map_bytes(submit_rates_)});
  return all;
}

}  // namespace millrace::core
