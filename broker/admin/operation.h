// What a person asks the broker's core to do or to say about a job, as values.
// Shape:   HTTP request → Operation (operation_routes.h) → core's thread (admin_queue.h) → Answer
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "broker/admin/queue_change.h"
#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/http/message.h"
#include "common/protocol/messages.h"

namespace millrace::admin {

// "3f9a1c07-42", or the number alone, which then is this broker's.
struct JobName {
  std::optional<BrokerId> broker;
  JobId job;
};
std::optional<JobName> parse_job_name(std::string_view text);

// Every condition that is set has to hold; without any, all dead jobs.
struct DeadChoice {
  std::optional<JobName> job;
  std::string queue;
  std::string error;  // a part of the last error
  Millis older{0};    // since the last attempt ended
};

// Which jobs a listing has; every condition that is set has to hold.
struct JobFilter {
  std::string queue;
  uint32_t states = 0;  // a bit for each JobState, by its value; 0: all
  std::string worker;   // name or ID: that has the job, or had it when its last attempt failed
  std::string error;    // a part of the last error
  Millis age{0};        // since the last attempt failed

  bool wants(protocol::JobState state) const {
    return states == 0 || (states >> unsigned(state) & 1) != 0;
  }
};
// A page of live and dead jobs by their numbers; its answer names where the next one begins.
struct ListJobs {
  static constexpr size_t kMaxLimit = 1000;

  JobFilter filter;
  std::string key;  // not empty: the one job that this key of filter.queue refers to
  JobName cursor{std::nullopt, {1}};
  size_t limit = 100;
};

// A page of dead jobs, the newest death first, or of their errors with counts.
struct ListDead {
  JobFilter filter;
  bool grouped = false;                              // by error
  std::optional<std::pair<WallMs, JobId>> cursor{};  // where the page before ended
  size_t limit = ListJobs::kMaxLimit;
};

struct ShowJob {
  JobName job;
};
struct ShowPayload {
  JobName job;
};
struct CancelJob {
  JobName job;
};
struct PurgeQueue {
  std::string queue;
};
// A page of all queues, from a place in the broker's table on; the answer names the next one.
struct ListQueues {
  uint64_t cursor = 0;
};
struct ShowQueue {
  std::string queue;
};
struct DeleteQueue {
  std::string queue;
};
struct SetQueue {
  std::string queue;
  QueueChange change;
  bool makes = false;  // the queue, if there is none of that name
};
struct RetryDead {
  DeadChoice choice;
};
struct DropDead {
  DeadChoice choice;
};
// How far an operation is that concerns many jobs; "5-2" is the second one of the broker's fifth
// start.
struct ShowOperation {
  uint64_t incarnation = 0, number = 0;
};
using Operation =
    std::variant<ListJobs, ListDead, ShowJob, ShowPayload, CancelJob, ListQueues, ShowQueue,
                 PurgeQueue, DeleteQueue, SetQueue, RetryDead, DropDead, ShowOperation>;

using Answer = http::Response;  // JSON, or a problem

}  // namespace millrace::admin
