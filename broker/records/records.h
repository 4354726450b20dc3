// The records of docs/JOURNAL.md, section 5, as values: the only things that change durable state.
// Units:   WallMs for times; counts are jobs
// Owns:    nothing where it says string_view: those point into the frame that brought the bytes, or
//          into the segment that is being replayed
// Threads: immutable
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/protocol/messages.h"

namespace millrace::records {

using protocol::FailKind;
using protocol::JobRange;
using protocol::Lease;
using protocol::Report;

struct Started {
  uint64_t incarnation = 0;
  WallMs time;
  Epoch first_epoch;  // of the leases that follow; 0: as version 1 had it
};

// Version 1 began each incarnation at its number times 2^44.
inline constexpr uint64_t kIncarnationsOfVersion1 = uint64_t{1} << 20;
constexpr Epoch first_epoch_of_version_1(uint64_t incarnation) { return {incarnation << 44 | 1}; }

struct Accepted {
  JobId first_job;
  Uuid producer;
  Seq first_seq;
  Seq floor;
  WallMs time;
  std::string_view queue;
  Report report = Report::none;
  uint8_t max_attempts = 0;  // 0: the queue's default, or the broker's
  uint8_t priority = protocol::kDefaultPriority;
  WallMs due{};                        // the epoch (0): at once
  WallMs expires{};                    // the epoch (0): never
  std::vector<std::string_view> keys;  // one a payload, or empty
  std::vector<std::string_view> payloads;
  std::string_view payload_array;  // the msgpack array that payloads point into
};

struct Leased {
  Uuid worker;
  Epoch first_epoch;
  std::vector<JobRange> runs;
};

struct DoneRun {
  JobId first;
  Epoch first_epoch;
  uint64_t count = 0;
};
struct JobResult {
  JobId job;
  std::string_view bytes;
};
// How many jobs of a queue are done.
struct QueueTotal {
  std::string queue;
  uint64_t done = 0;
  bool operator==(const QueueTotal&) const = default;
};
struct Done {
  WallMs time;
  std::vector<DoneRun> runs;
  std::vector<JobResult> results;
  // A reader may not know the jobs any more that an old segment brought in, but it counts them by
  // queue. Empty in version 1: those that it knows are counted.
  std::vector<QueueTotal> totals;
};

struct Failed {
  Lease lease;
  WallMs time;
  FailKind kind = FailKind::retryable;
  WallMs due{};  // the epoch (0): dead
  std::string_view worker;
  std::string_view error;
};

enum class ReturnReason : uint8_t { released, lost, expired, never_arrived };
struct Returned {
  struct Entry {
    Lease lease;
    bool dead = false;
  };
  WallMs time;
  ReturnReason reason = ReturnReason::released;
  std::string_view worker;
  std::vector<Entry> jobs;
};

struct Due {
  std::vector<JobRange> runs;
};
// Results that are kept no longer: their producer has them, or they were too old or too many.
struct Collected {
  std::vector<JobRange> runs;
};
struct ProducerGone {
  Uuid producer;
};
// A sequence that was answered with the job of an idempotency key, and made none of its own.
struct Matched {
  Uuid producer;
  Seq seq;
  Seq floor;
  WallMs time;
  JobId job;
};
enum class CancelReason : uint8_t { asked, purged, dropped };
struct Cancelled {
  WallMs time;
  CancelReason reason = CancelReason::asked;
  std::vector<JobRange> runs;
};
struct Expired {
  std::vector<JobRange> runs;
};
// Dead jobs that someone gave new attempts.
struct Requeued {
  WallMs time;
  std::vector<JobRange> runs;
};

// How an attempt ended that did not bring the job in.
struct AttemptFailure {
  uint32_t attempt = 0;
  std::string worker;
  std::string error;
  WallMs time;
  bool operator==(const AttemptFailure&) const = default;
};
// All that is known of a job that has not ended, or is dead, written anew so that the segment that
// it came in can go. Where the job is known already it changes nothing.
struct Relocated {
  JobId job;
  Uuid producer;  // zeros: forgotten
  std::string_view queue;
  protocol::JobState state = protocol::JobState::ready;
  Report report = Report::none;
  uint8_t max_attempts = 0;
  uint8_t priority = protocol::kDefaultPriority;
  uint16_t attempts = 0;
  uint8_t failures = 0;
  uint8_t crashes = 0;
  WallMs due{};      // of what is scheduled or in retry-wait
  WallMs expires{};  // the epoch (0): never
  Epoch epoch;       // of the lease, or of the last one
  Uuid worker;       // that has the lease, or had the last one
  std::vector<AttemptFailure> history;
  std::string_view payload;
  bool operator==(const Relocated&) const = default;
};

// The result of a job that is done, written anew so that the segments before can go. Where it is
// known already it changes nothing.
struct ResultRetained {
  JobId job;
  uint16_t attempts = 0;
  WallMs time;  // when it was done
  std::string_view result;
  bool operator==(const ResultRetained&) const = default;
};

// Jobs below this one that have ended are known to have ended, and not how any more.
struct HistoryTrimmed {
  JobId below;
};

// Periods of the grace window that have passed with the broker there, over all starts, while a
// worker with leases was away; 0: it is back, or has no lease any more.
inline constexpr uint8_t kGracePeriods = 8;
struct Absence {
  Uuid worker;
  uint8_t periods = 0;
  bool operator==(const Absence&) const = default;
};
struct Absent {
  std::vector<Absence> workers;  // those of which it changed
};

enum class Order : uint8_t { fifo, fair };
// What a queue was told to do; 0 means no limit, or the broker's default.
struct QueueSettings {
  uint64_t weight = 1;
  Order order = Order::fifo;
  bool paused = false;
  uint64_t concurrency = 0;  // leases at a time, over all workers
  uint64_t rate = 0;         // leases a second
  uint64_t max_length = 0;   // jobs neither done nor dead
  uint8_t max_attempts = 0;
  Millis backoff_min{0}, backoff_max{0};
  Millis lease{0};
  Millis ttl{0};
  bool operator==(const QueueSettings&) const = default;
};
struct QueueSet {
  std::string queue;
  QueueSettings settings;
  bool operator==(const QueueSet&) const = default;
};

struct SeqRun {
  Seq first;
  uint64_t count = 0;
  JobId first_job;
  bool operator==(const SeqRun&) const = default;
};
struct ProducerState {
  Uuid id;
  Seq floor;
  WallMs seen;
  std::vector<SeqRun> known;
  bool operator==(const ProducerState&) const = default;
};
// Totals since the journal began.
struct Counts {
  uint64_t accepted = 0, done = 0, dead = 0, attempts = 0, crashes = 0, failures = 0;
  uint64_t cancelled = 0, expired = 0, requeued = 0;
  bool operator==(const Counts&) const = default;
};
struct KnownKey {
  std::string key;
  JobId job;
  WallMs time;
  bool operator==(const KnownKey&) const = default;
};
struct Checkpoint {
  BrokerId broker;
  uint64_t incarnation = 0;
  JobId next_job;
  Epoch next_epoch;
  Counts counts;
  std::vector<JobRange> done;
  std::vector<JobRange> cancelled;
  std::vector<JobRange> expired;
  std::vector<ProducerState> producers;
  std::vector<QueueSet> queues;
  std::vector<KnownKey> keys;
  std::optional<std::vector<QueueTotal>> totals;  // by queue, those above 0; version 1 has none
  JobId history_start;                            // see HistoryTrimmed; only with totals
  std::vector<Absence> absent;                    // likewise
  bool operator==(const Checkpoint&) const = default;
};

using Record = std::variant<Started, Accepted, Leased, Done, Failed, Returned, Due, Collected,
                            ProducerGone, Checkpoint, Matched, Cancelled, Expired, Requeued,
                            QueueSet, Relocated, ResultRetained, HistoryTrimmed, Absent>;

// The bytes that payloads lie in; empty for records that bring none.
std::string_view payload_bytes(const Record& record);

}  // namespace millrace::records
