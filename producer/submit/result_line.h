// How the end of a job is written for programs: one JSON line.
// Shape:   {"id":"3f9a1c07-42","seq":7,"state":"done","attempts":1,"result":"…"}
//          result_base64 instead of result when it is not UTF-8; error for dead jobs; attempts null
//          when the broker only remembered the state; state "lost" when it no longer knew the job
// Threads: immutable
#pragma once

#include <string>

#include "producer/session/listener.h"

namespace millrace::producer {

// The name of an end: done, dead, cancelled, expired or lost.
std::string_view state_text(protocol::JobState state);
// The line of the i-th job, without a line end.
std::string result_line(const Ended& ended, uint64_t i);

}  // namespace millrace::producer
