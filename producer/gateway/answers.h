// How the gateway says what became of a submission: a response, or a line of a batch's response.
// Shape:   accepted: 202 {"id","state","known"} and Location; ended: 200 {"id","state","attempts",
//          "result"|"result_base64","error"}; everything else a problem (RFC 9457), whose type says
//          whether the job may be stored
// Threads: immutable
#pragma once

#include <string>

#include "common/http/message.h"
#include "producer/gateway/job_names.h"
#include "producer/runner/submission.h"

namespace millrace::producer {

// Nothing was stored, and trying again will help.
http::Response back_pressure(std::string_view detail, Millis retry_after);
http::Response unavailable(std::string_view type, std::string_view detail);
http::Response away(SpoolRoom room = SpoolRoom::some);
http::Response no_answer();  // to a question
http::Response draining();

http::Response answer_response(const Answer& answer, const JobNames& names);
// The end of a job that was waited for; `raw`: the bytes of its result alone, if it is done.
http::Response end_response(const JobView& view, const JobNames& names, bool raw);
// The answer to a look-up.
http::Response view_response(const JobView& view, const JobNames& names, bool raw);

// Lines are counted from 1, and have no line end.
std::string answer_line(size_t line, const Answer& answer, const JobNames& names);
std::string fault_line(size_t line, std::string_view fault);

}  // namespace millrace::producer
