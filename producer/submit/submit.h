// millrace-producer submit: payloads in, job ids or results out.
// Shape:   without --wait: the id of each job, a line each, in the order of submission, as they are
//          confirmed; with --wait or --results: a result line (producer/submit/result_line.h) for each job,
//          in the order of completion, or of submission with --keep-order; --json: one object at the
//          end; --joblog: a line a job in a file (producer/submit/joblog.h), from which --resume goes on
// Errors:  usage: flags that don't go together; bad_data: input, a joblog that is not this input's,
//          or a submission that the broker will never take (all others are still answered); failed:
//          a job is dead or lost; temporary: the time-out; interrupted
// Threads: one thread
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/cli/command.h"
#include "common/net/curve.h"
#include "producer/submit/halt.h"

namespace millrace::producer {

struct SubmitFlags {
  std::vector<Endpoint> brokers;
  Millis connect_timeout{};
  CurveFlags curve;
  std::string queue;
  std::optional<std::string> payload;
  std::string lines;
  std::string ndjson;
  bool null_separated = false;
  bool wait = false;
  std::string results;
  bool keep_order = false;
  std::optional<int64_t> jobs;
  Halt halt;
  std::string joblog;
  bool resume = false;
  bool resume_failed = false;
  int64_t max_attempts = 0;
  int64_t priority = 0;
  Millis delay{}, ttl{};
  bool no_hold = false;
  std::optional<std::string> key;
  std::string ledger;
  std::string spool;
  int64_t spool_size = 0;
  Millis timeout{};
  bool json = false;
  bool bar = false;
  bool quiet = false;

  bool wants_results() const { return wait || !results.empty(); }
  bool resumes() const { return resume || resume_failed; }
  // --resume needs the ledger's account of what was on its way.
  std::string ledger_path() const {
    return !ledger.empty() || joblog.empty() ? ledger : joblog + ".ledger";
  }
};

void declare_submit(Command& command, SubmitFlags& flags);
Result<ExitCode> run_submit(const SubmitFlags& flags);

}  // namespace millrace::producer
