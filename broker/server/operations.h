// An operation as calls into the core, and what the core says as an answer for people.
// Shape:   what concerns many jobs is only begun here; Core::advance_operations() goes on with it
// Errors:  404 nothing of that name here, 409 the job's state does not allow it, 422 settings that
//          contradict each other, 429 too many operations are pending
// Threads: the core's
#pragma once

#include <variant>

#include "broker/admin/operation.h"
#include "broker/core/core.h"
#include "broker/listing/dead_listing.h"
#include "broker/listing/job_listing.h"

namespace millrace::server {

using Listing = std::variant<listing::JobListing, listing::DeadListing>;

// The answer holds once the records in `out` are durable.
struct Performed {
  admin::Answer answer;
  std::optional<uint64_t>
      pending;  // the core's number of what goes on; the answer then says so (202)
  // What goes on without the core; there is no answer yet.
  std::optional<Listing> listing;
  std::optional<JobId> payload;  // of this job is wanted
};
Performed perform(core::Core& core, Now now, const admin::Operation& operation, core::Output& out);

// To the one who asked for it, and waited until it was done.
admin::Answer answer_of(const core::BulkOperation& done);

}  // namespace millrace::server
