// The two lines of a stream: handler: a job, and its answer.
// Shape:   docs/HANDLERS.md
// Errors:  parse_answer: nothing, if the line is no answer to this job
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "worker/handlers/handler.h"

namespace millrace::worker {

// With its newline.
std::string job_line(const JobContext& context);
// Without its newline.
std::optional<Completion> parse_answer(std::string_view line, std::string_view job);

}  // namespace millrace::worker
