// What does the work of one queue.
// Shape:   run(context) → Completion: done(result) | failed(kind, error)
// Errors:  what goes wrong is a Completion; an exception counts as a retryable failure
// Owns:    a context's views live as long as the call
// Threads: run() is called by many threads at once
#pragma once

#include <memory>
#include <string_view>

#include "common/base/result.h"
#include "worker/job/job.h"
#include "worker/process/boottime.h"
#include "worker/process/stop_signal.h"

namespace millrace::worker {

struct JobContext {
  const Job& job;
  std::string_view queue;
  const StopSignal& stop;              // when it is set, return soon: nobody waits for the result
  std::string_view subscription = {};  // the queue's name, or the prefix that it was found by
  Boottime start_before =
      kNoDeadline;  // after that the broker may have leased it to another worker

  std::string name() const { return job_text(job.broker, job.lease.job); }
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual Completion run(const JobContext& context) = 0;
  // Whether run() returns soon after a stop, and only once nothing of the job is left. Then a job
  // that is over its time ends when run() returns, so that its next attempt does not overlap.
  virtual bool ends_when_stopped() const { return false; }
};

class Spawner;
struct CommandLimits;

// From the text behind NAME= in --queue. An error (usage) names the handlers that there are. Those
// that run commands start the spawner, before the first thread; it must outlive them. The limits
// are for commands.
Result<std::unique_ptr<Handler>> make_handler(std::string_view text, Spawner& spawner,
                                              const CommandLimits& limits);

}  // namespace millrace::worker
