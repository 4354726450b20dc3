// The messages of docs/PROTOCOL.md as values; that page says what each field means.
// Units:   *_ms in the wire's names are Millis here
// Owns:    nothing: string_views of a decoded message point into its frame, those of a message to
//          be encoded into whatever its maker keeps alive until encode() has returned
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/protocol/limits.h"

namespace millrace::protocol {

enum class Type : uint8_t {
  hello = 1,
  submit = 2,
  query = 3,
  collected = 4,
  cancel = 5,
  register_worker = 10,
  credit = 11,
  done = 12,
  fail = 13,
  release = 14,
  extend = 15,
  heartbeat = 20,
  bye = 21,
  welcome = 30,
  confirm = 31,
  reject = 32,
  outcome = 33,
  states = 34,
  lease = 40,
  done_ok = 41,
  stale = 42,
  cancelled = 43,
  recall = 44,
  reregister = 50,
  error = 51,
};

// What the producer wants to hear of a job's end.
enum class Report : uint8_t { none, outcome, result };

enum class JobState : uint8_t {
  unknown,
  scheduled,
  ready,
  leased,
  retry_wait,
  done,
  dead,
  cancelled,
  expired,
  ended  // how is not known any more
};
std::string_view name_of(JobState state);
constexpr bool is_end(JobState state) {
  return state == JobState::done || state == JobState::dead || state == JobState::cancelled ||
         state == JobState::expired || state == JobState::ended;
}
bool parse_job_state(std::string_view name, JobState* state);

struct JobRange {
  JobId first;
  uint64_t count = 0;
  bool operator==(const JobRange&) const = default;
};

// One attempt at one job.
struct Lease {
  JobId job;
  Epoch epoch;
  bool operator==(const Lease&) const = default;
};

// Both ports
struct Heartbeat {};
struct Bye {};
struct Reregister {};
struct Welcome {
  BrokerId broker;
  uint64_t incarnation = 0;
  Millis heartbeat{1000};
  uint64_t liveness = 3;
  uint64_t max_job_size = kDefaultMaxJobSize;
  uint64_t window_jobs = 0;
  uint64_t window_bytes = 0;
  std::string_view durability;
  Millis lease{30000};
  std::vector<Lease> stale;
};
// What a refused frame was about: the first sequence of a SUBMIT, or the batch of a completion; or
// which broker it is that does not let a client in.
struct About {
  enum class Kind : uint8_t { seq, batch, broker };
  Kind kind = Kind::seq;
  uint64_t number = 0;
  bool operator==(const About&) const = default;
};
struct ErrorReply {
  std::string_view code;
  std::string message;
  std::optional<About> about{};
};

// Producers
struct Hello {
  Uuid producer;
};
struct SubmitOptions {
  Report report = Report::none;
  uint8_t max_attempts = 0;  // 0: the queue's default, or the broker's
  uint8_t priority = kDefaultPriority;
  Millis delay{0};
  Millis ttl{0};    // 0: the queue's default, or none
  std::string key;  // producers: the idempotency key of each job that is submitted with these
  bool operator==(const SubmitOptions&) const = default;
};
struct Submit {
  Seq floor;
  Seq first;
  std::string_view queue;
  SubmitOptions options;
  std::vector<std::string_view> keys;  // idempotency keys, one a payload; or empty
  std::string_view refused_option;  // decoding only: the key that is unknown, or whose value is bad
  bool option_known = true;         // decoding only: refused_option is known, its value is bad
  std::vector<std::string_view> payloads;
  std::string_view payload_array;  // decoding only: the msgpack array that payloads point into
};
struct Query {
  std::vector<JobRange> jobs;
};
struct Collected {
  std::vector<JobRange> jobs;
};
struct Cancel {
  std::vector<JobRange> jobs;
};
struct Confirm {
  struct Range {
    Seq first;
    uint64_t count = 0;
    JobId first_job;
    bool known = false;
  };
  std::string_view durability;
  std::vector<Range> ranges;
};
struct Reject {
  struct Range {
    Seq first;
    uint64_t count = 0;
    std::string_view reason;
    Millis retry_after{0};
    std::string message;
  };
  std::vector<Range> ranges;
};
struct Outcome {
  struct Entry {
    JobRange jobs;
    JobState state = JobState::unknown;
    uint64_t attempts = 0;
    bool has_result = false;
    bool has_error = false;
    std::string_view result;
    std::string_view error;
  };
  std::vector<Entry> entries;
};
struct States {
  struct Range {
    JobRange jobs;
    JobState state = JobState::unknown;
  };
  std::vector<Range> ranges;
};

// Workers
struct Register {
  Uuid worker;
  std::string_view name;
  std::vector<std::string_view> queues;
  uint64_t threads = 0;
  std::vector<Lease> claims;
  std::vector<std::string_view> labels;  // for people; none from clients that know no labels
};
struct Credit {
  uint64_t jobs = 0;
  uint64_t threads = 0;  // as REGISTER's; 0: as it was
};
struct Done {
  struct Entry {
    Lease lease;
    bool has_result = false;
    std::string_view result;
  };
  uint64_t batch = 0;
  std::vector<Entry> jobs;
};
enum class FailKind : uint8_t { retryable, permanent, crash };
struct Fail {
  struct Entry {
    Lease lease;
    FailKind kind = FailKind::retryable;
    std::string_view error;
  };
  uint64_t batch = 0;
  std::vector<Entry> jobs;
};
struct Release {
  uint64_t batch = 0;
  std::vector<Lease> jobs;
};
struct Extend {
  std::vector<Lease> jobs;
};
struct LeaseGrant {
  struct Entry {
    Lease lease;
    uint64_t attempt = 0;
    bool wants_result = false;
    std::string_view payload;
  };
  std::string_view queue;
  std::vector<Entry> jobs;
  Millis lease{0};
};
struct DoneOk {
  uint64_t batch = 0;
};
struct Stale {
  std::vector<Lease> jobs;
};
struct Cancelled {
  std::vector<Lease> jobs;
};
struct Recall {
  std::vector<Lease> jobs;
};

using FromClient = std::variant<Hello, Submit, Query, Collected, Cancel, Register, Credit, Done,
                                Fail, Release, Extend, Heartbeat, Bye>;
using FromBroker = std::variant<Welcome, Confirm, Reject, Outcome, States, LeaseGrant, DoneOk,
                                Stale, Cancelled, Recall, Heartbeat, Reregister, ErrorReply>;

bool valid_queue_name(std::string_view name);
// The name of a queue, or a prefix of names that ends in '*'.
bool valid_subscription(std::string_view text);
// The error of a job whose result can't be stored; the worker says it, or else the broker.
std::string result_too_large(size_t bytes, uint64_t max_job_size);
std::optional<About> about(const FromClient& message);

}  // namespace millrace::protocol
