// The state as a snapshot tells it: the checkpoint, jobs at rest in runs, every other job as it
// would be relocated, and the results that are kept. Beside the journal, since replaying it takes
// longer.
#include <algorithm>

#include "broker/core/state/state.h"

namespace millrace::core {
namespace {

bool is_at_rest(const Job& job) {
  return job.state == JobState::ready && job.attempts == 0 && !job.expires;
}

bool alike(const Job& a, const Job& b) {
  return a.producer == b.producer && a.queue == b.queue && a.report == b.report &&
         a.max_attempts == b.max_attempts && a.priority == b.priority;
}

}  // namespace

std::vector<NeverLeased> State::never_leased() const {
  std::vector<NeverLeased> groups;
  std::vector<Job> kinds;  // of each group
  size_t group = 0;
  jobs_.for_each([&](JobId id, const Job& job) {
    if (!is_at_rest(job) || last_leases_.contains(id) || failures_.contains(id)) return;
    if (groups.empty() || !alike(kinds[group], job)) {
      auto found = std::find_if(kinds.begin(), kinds.end(),
                                [&](const Job& kind) { return alike(kind, job); });
      group = size_t(found - kinds.begin());
      if (found == kinds.end()) {
        const Uuid* producer = producers_.id_of(job.producer);
        kinds.push_back(job);
        groups.push_back({producer ? *producer : Uuid{},
                          queues_[job.queue].name,
                          job.report,
                          job.max_attempts,
                          job.priority,
                          {}});
      }
    }
    auto& runs = groups[group].runs;
    if (!runs.empty() && runs.back().first.value + runs.back().count == id.value) {
      ++runs.back().count;
    } else {
      runs.push_back({id, 1});
    }
  });
  return groups;
}

std::vector<JobId> State::leased_before() const {
  std::vector<JobId> jobs;
  jobs_.for_each([&](JobId id, const Job& job) {
    if (!is_at_rest(job) || last_leases_.contains(id) || failures_.contains(id)) jobs.push_back(id);
  });
  return jobs;
}

std::vector<Lease> State::winners() const {
  std::vector<Lease> leases;
  for (const Winner& winner : winners_)
    if (winner.job != JobId{}) leases.push_back({winner.job, winner.epoch});
  return leases;
}

void State::restore(const NeverLeased& never_leased) {
  Job job;
  if (producers_.knows(never_leased.producer))
    job.producer = producers_.index_of(never_leased.producer);
  job.queue = queue_index(never_leased.queue);
  job.report = never_leased.report;
  job.max_attempts = never_leased.max_attempts;
  job.priority = never_leased.priority;
  for (const JobRange& run : never_leased.runs) {
    for (uint64_t i = 0; i < run.count; ++i) jobs_.insert({run.first.value + i}, job);
    change(job.queue).ready.insert(run, job.rank());
    producers_.add_live(job.producer, run.count);
  }
}

}  // namespace millrace::core
