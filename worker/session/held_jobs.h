// The jobs that this worker answers for: leased to it, and not yet confirmed as ended.
// Shape:   held ──finish()──▶ finished ──confirm()──▶ gone;  drop() from either
//          1. At most one epoch of a job is here, the newest one granted.
//          2. What is here is what a new session claims.
// Units:   monotonic time, passed in
// Threads: one thread
#pragma once

#include <tsl/robin_map.h>

#include <vector>

#include "common/protocol/messages.h"

namespace millrace::worker {

class HeldJobs {
 public:
  struct Granted {
    bool taken = false;  // false: this epoch, or a newer one, is here already
    Epoch replaced;      // an older epoch of the job was here, and is no more; 0 if none
  };
  Granted grant(protocol::Lease lease, bool wants_result, Mono now);

  enum class End { unknown, plain, wants_result };
  // The job has ended here. Unknown if it is not held, or has ended before: the end is void.
  End finish(protocol::Lease lease);
  void confirm(protocol::Lease lease) { erase(lease); }
  void drop(protocol::Lease lease) { erase(lease); }

  // Everything that is here; and what is still to be finished.
  std::vector<protocol::Lease> claims() const;
  std::vector<protocol::Lease> unfinished() const;
  bool is_unfinished(protocol::Lease lease) const;

  // What was granted or extended at `before` or earlier and has not ended; it counts as extended
  // now. The other form asks for one lease, ended or not.
  std::vector<protocol::Lease> take_overdue(Mono before, Mono now);
  bool take_overdue(protocol::Lease lease, Mono before, Mono now);
  // All leases begin anew: a broker has just accepted the claims.
  void renew(Mono now);

  size_t size() const { return jobs_.size(); }
  size_t finished() const { return finished_; }

 private:
  struct Held {
    Epoch epoch;
    Mono extended;
    bool wants_result;
    bool finished;
  };

  void erase(protocol::Lease lease);

  tsl::robin_map<JobId, Held> jobs_;
  size_t finished_ = 0;
};

}  // namespace millrace::worker
