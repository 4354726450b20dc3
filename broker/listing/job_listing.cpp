#include "broker/listing/job_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "broker/listing/job_record.h"

namespace millrace::listing {
namespace {

using protocol::JobState;

// In slots looked at, of 1 to 5 ns each.
constexpr uint64_t kWorkPerLook = 1024;  // at the clock
constexpr uint64_t kWorkOfFailure = 16;  // to find and compare a job's last failure
constexpr uint64_t kWorkOfEntry = 512;   // to write it down

}  // namespace

JobMatcher::JobMatcher(admin::JobFilter filter, const core::Core& core, Now now)
    : filter_(std::move(filter)), now_(now.wall) {
  for (const auto& [id, session] : core.sessions()) {
    if (!session.is_worker) continue;
    sessions_.emplace_back(session.worker, id);
    if (!filter_.worker.empty() &&
        (session.name == filter_.worker || session.peer.hex() == filter_.worker))
      workers_.push_back(session.worker);
  }
  std::sort(sessions_.begin(), sessions_.end());
  std::sort(workers_.begin(), workers_.end());
}

std::string JobMatcher::worker_name(const core::Core& core, core::WorkerIndex worker) const {
  const auto found = std::lower_bound(
      sessions_.begin(), sessions_.end(), worker,
      [](const auto& known, core::WorkerIndex index) { return known.first < index; });
  if (found == sessions_.end() || found->first != worker) return "";
  const auto session = core.sessions().find(found->second);
  return session == core.sessions().end() ? "" : session->second.name;
}

bool JobMatcher::matches(const core::State& state, JobId id, const core::Job& job) const {
  if (filter_.worker.empty() && filter_.error.empty() && filter_.age.count() == 0) return true;
  const core::AttemptFailure* failure = state.last_failure_of(id);
  if (!filter_.error.empty() &&
      (!failure || failure->error.find(filter_.error) == std::string::npos))
    return false;
  if (filter_.age.count() > 0 && (!failure || failure->time + filter_.age > now_)) return false;
  return filter_.worker.empty() ||
         is_of_worker(state, id, job.state == JobState::leased ? nullptr : failure);
}

bool JobMatcher::is_of_worker(const core::State& state, JobId id,
                              const core::AttemptFailure* failure) const {
  if (failure) return failure->worker == filter_.worker;
  const core::LeaseInfo* lease = state.lease_of(id);
  return lease && std::binary_search(workers_.begin(), workers_.end(), lease->worker);
}

JobListing::JobListing(const admin::ListJobs& asked, const core::Core& core, Now now)
    : matcher_(asked.filter, core, now),
      key_(asked.key),
      limit_(asked.limit),
      begun_(now),
      next_(asked.cursor.job) {}

bool JobListing::advance(const core::Core& core, const std::function<Mono()>& clock) {
  if (!key_.empty()) return find_by_key(core), true;
  const core::State& state = core.state();
  const std::string& queue = matcher_.filter().queue;
  const auto index = state.find_queue(queue);  // it may have been removed, or made anew
  if (!queue.empty() && !index) return next_.reset(), true;
  const auto look_at = [&](uint64_t* work) {
    next_ = state.visit_some_jobs(*next_, work, [&](JobId id, const core::Job& job) {
      if (!matcher_.filter().wants(job.state) || (!queue.empty() && job.queue != *index))
        return true;
      return look(core, id, job, work);
    });
  };
  for (const Mono end = clock() + kSlice;;) {
    uint64_t work = kWorkPerLook;
    look_at(&work);
    const Mono now = clock();
    if (!next_ || is_full() || now >= begun_.mono + kPageTime) return true;
    if (now >= end) return false;
  }
}

// False: the page is full.
bool JobListing::look(const core::Core& core, JobId id, const core::Job& job, uint64_t* work) {
  *work -= std::min(*work, kWorkOfFailure);
  if (!matcher_.matches(core.state(), id, job)) return true;
  *work -= std::min(*work, kWorkOfEntry);
  add(core, id, job);
  return !is_full();
}

void JobListing::find_by_key(const core::Core& core) {
  next_.reset();
  const core::State& state = core.state();
  const admin::JobFilter& filter = matcher_.filter();
  const auto id = state.job_of_key(filter.queue, key_, begun_.wall);
  if (!id) return;
  if (const core::Job* job = state.find(*id)) {
    if (filter.wants(job->state) && matcher_.matches(state, *id, *job)) add(core, *id, *job);
  } else if (filter.states == 0 && filter.worker.empty() && filter.error.empty() &&
             filter.age.count() == 0) {
    body_ = dumped({{"id", job_text(state.broker(), *id)},
                    {"queue", filter.queue},
                    {"state", name_of(state.state_of(*id))}});
  }
}

void JobListing::add(const core::Core& core, JobId id, const core::Job& job) {
  const core::State& state = core.state();
  const core::LeaseInfo* lease = state.lease_of(id);
  const std::string worker = lease ? matcher_.worker_name(core, lease->worker) : "";
  if (!body_.empty()) body_ += ',';
  body_ += dumped(job_summary(state, id, job, worker));
  ++found_;
}

admin::Answer JobListing::answer(const core::Core& core) const {
  return http::ok(
      "application/json",
      fmt::format("{{\"jobs\":[{}],\"next\":{},\"now_ms\":{}}}\n", body_,
                  next_ ? "\"" + job_text(core.state().broker(), *next_) + "\"" : "null",
                  to_int(begun_.wall)));
}

}  // namespace millrace::listing
