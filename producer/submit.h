// millrace-producer submit: payloads in, job ids or results out.
// Shape:   without --wait: the id of each job, a line each, in the order of submission, as they are
//          confirmed; with --wait or --results: a result line (producer/result_line.h) for each job,
//          in the order of completion; --json: one object at the end
// Errors:  bad_data: input, or a submission that the broker will never take (all others are still
//          answered); failed: a job is dead or lost; temporary: the time-out; interrupted
// Threads: one thread
#pragma once

#include <optional>
#include <string>

#include "common/command.h"
#include "common/curve.h"

namespace millrace::producer {

struct SubmitFlags {
  Endpoint broker;
  Millis connect_timeout{};
  CurveFlags curve;
  std::string queue;
  std::optional<std::string> payload;
  std::string lines;
  std::string ndjson;
  bool wait = false;
  std::string results;
  int64_t max_attempts = 0;
  int64_t priority = 0;
  Millis delay{}, ttl{};
  bool no_hold = false;
  std::optional<std::string> key;
  std::string ledger;
  Millis timeout{};
  bool json = false;
  bool quiet = false;
};

void declare_submit(Command& command, SubmitFlags& flags);
Result<ExitCode> run_submit(const SubmitFlags& flags);

}  // namespace millrace::producer
