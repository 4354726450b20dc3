// A page of jobs for people, gathered a slice at a time between the rounds of the loop, so that ten
// million jobs stop no heartbeat.
// Shape:   advance() in each round until it returns true; then answer()
//          By job number, so a cursor is a number: jobs that come, change or end between two pages
//          move no others.
// Limits:  kSlice a round; a page ends at the limit that was asked for, at kPageBytes, or when
//          kPageTime has passed: it then has fewer jobs, or none, and a cursor all the same
// Threads: the core's
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/admin/operation.h"
#include "broker/core/core.h"

namespace millrace::listing {

// Which jobs are meant. The workers are those of the moment when it was made.
class JobMatcher {
 public:
  JobMatcher(admin::JobFilter filter, const core::Core& core, Now now);

  // Of a job in a state that the filter wants.
  bool matches(const core::State& state, JobId id, const core::Job& job) const;
  const admin::JobFilter& filter() const { return filter_; }
  // What a worker with a session is called.
  std::string worker_name(const core::Core& core, core::WorkerIndex worker) const;

 private:
  bool is_of_worker(const core::State& state, JobId id, const core::AttemptFailure* failure) const;

  admin::JobFilter filter_;
  WallMs now_;
  std::vector<std::pair<core::WorkerIndex, SessionId>> sessions_;  // sorted
  std::vector<core::WorkerIndex> workers_;                         // of the filter, sorted
};

class JobListing {
 public:
  static constexpr std::chrono::microseconds kSlice{200};
  static constexpr Millis kPageTime{500};
  static constexpr size_t kPageBytes = 1 << 20;

  JobListing(const admin::ListJobs& asked, const core::Core& core, Now now);

  // True: the page is complete.
  bool advance(const core::Core& core, const std::function<Mono()>& clock = &Mono::clock::now);
  admin::Answer answer(const core::Core& core) const;

 private:
  void find_by_key(const core::Core& core);
  bool look(const core::Core& core, JobId id, const core::Job& job, uint64_t* work);
  void add(const core::Core& core, JobId id, const core::Job& job);
  bool is_full() const { return found_ >= limit_ || body_.size() >= kPageBytes; }

  JobMatcher matcher_;
  std::string key_;
  size_t limit_;
  Now begun_;
  std::optional<JobId> next_;
  std::string body_;  // the jobs as JSON, with commas between
  size_t found_ = 0;
};

}  // namespace millrace::listing
