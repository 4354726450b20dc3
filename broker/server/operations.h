// An operation as calls into the core, and what the core says as an answer for people.
// Errors:  404 nothing of that name here, 409 the job's state does not allow it, 422 settings that
//          contradict each other
// Threads: the core's
#pragma once

#include "broker/admin/operation.h"
#include "broker/core/core.h"

namespace millrace::server {

// The answer holds once the records in `out` are durable.
admin::Answer perform(core::Core& core, Now now, const admin::Operation& operation,
                      core::Output& out);

}  // namespace millrace::server
