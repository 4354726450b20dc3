// Dead jobs for people, the newest death first, or how many died of which error; gathered a slice
// at a time between the rounds of the loop, as job_listing.h does.
// Shape:   advance() in each round until it returns true; then answer()
//          Every dead job is looked at, the youngest number first, and the newest deaths below the
//          cursor are kept: nothing is remembered of a death beside the job itself. A cursor is the
//          time and the number of the last job of a page, so jobs that die, are retried or dropped
//          between two pages move no others.
// Limits:  kSlice a round, kTime in all: about 5 million dead jobs at rest. Beyond them `examined`
//          says how many were looked at. Of groups a page has kMaxGroups: other errors are only
//          counted, and it goes on with the next page where the time was over
// Threads: the core's
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/listing/job_listing.h"

namespace millrace::listing {

// An error without what differs from one to the next: numbers and hexadecimal IDs become N.
std::string error_group(std::string_view error);

class DeadListing {
 public:
  static constexpr size_t kMaxGroups = 200;
  static constexpr Millis kTime{1200};

  DeadListing(const admin::ListDead& asked, const core::Core& core, Now now);

  // True: the page is complete.
  bool advance(const core::Core& core, const std::function<Mono()>& clock = &Mono::clock::now);
  admin::Answer answer(const core::Core& core) const;

 private:
  using Death = std::pair<WallMs, JobId>;
  struct Group {
    uint64_t jobs = 0;
    Death newest;
  };

  void look_at_some(const core::State& state);
  void keep(const Death& death);
  void count(const Death& death, const core::AttemptFailure* failure);
  void finish_search();
  void write_some(const core::Core& core);
  bool is_over() const { return searched_ && (grouped_ || written_ == newest_.size()); }

  JobMatcher matcher_;
  size_t limit_;
  bool grouped_;
  Now begun_;
  std::optional<Death> cursor_;  // of a list: only what is below
  uint64_t below_;               // jobs are looked at below this number
  bool searched_ = false;
  uint64_t examined_ = 0, matched_ = 0;
  std::vector<Death> newest_;  // a heap while it searches: the oldest is the first
  size_t written_ = 0;         // of them
  std::string body_;           // the jobs as JSON, with commas between
  std::map<std::string, Group> groups_;
  uint64_t other_ = 0;  // of no group
};

}  // namespace millrace::listing
