// The broker as people and monitors see it: one snapshot, made by the core's thread on request.
// Shape:   plain values; status_json.h gives them the names that `status --json` promises
// Units:   as the names say; bytes where there is none
// Limits:  the kMaxQueuesListed queues with the most jobs, the first kMaxSubscriptionsListed
//          subscriptions of a worker
// Threads: immutable once published (publisher.h)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "broker/records/records.h"

namespace millrace::admin {

inline constexpr size_t kMaxProducersListed = 10;
inline constexpr size_t kMaxQueuesListed = 1000;
inline constexpr size_t kMaxSubscriptionsListed = 100;  // of a worker

// Jobs by state, now. The last four are ends, and count since the journal began.
struct JobCounts {
  uint64_t scheduled = 0, ready = 0, leased = 0, retry_wait = 0;
  uint64_t done = 0, dead = 0, cancelled = 0, expired = 0;
};

// Events. The first six count since the journal began, the others since this start.
struct Totals {
  uint64_t accepted = 0, done = 0, dead = 0, attempts = 0, crashes = 0, failures = 0;
  uint64_t returned = 0, duplicates_known = 0, stale = 0, rejected = 0;
};

struct QueueStatus {
  std::string name;
  uint64_t ready = 0, leased = 0, retry_wait = 0, dead = 0, done = 0;
  uint64_t workers = 0;
  uint64_t scheduled = 0;
  records::QueueSettings settings;
};

// Of queues that are not listed.
struct QueueSums {
  uint64_t queues = 0;
  uint64_t scheduled = 0, ready = 0, leased = 0, retry_wait = 0, dead = 0, done = 0;
};

struct WorkerStatus {
  std::string name;
  std::string id;                   // hexadecimal
  std::vector<std::string> queues;  // and prefixes; the first ones
  std::vector<std::string> labels;
  uint64_t threads = 0, credit = 0, in_flight = 0, done = 0, failed = 0;
  double seconds_since_heard = 0;
  bool connected = true;       // false: it holds leases from before, and has not come back yet
  uint64_t subscriptions = 0;  // all of them
};

struct JournalStatus {
  uint64_t segments = 0, bytes = 0;
  uint64_t durable_batch = 0;  // the sequence of the last batch that is on disk
  uint64_t commits = 0;        // since this start
  uint64_t last_commit_us = 0;
  uint64_t disk_free = 0;
  bool stalled = false;    // no space: the pending batch is being retried
  bool rejecting = false;  // stalled, or down to the reserve: no new jobs
  // What a power cut would take just now: all that was accepted in this time. And at most, as
  // --fsync says; nothing: no limit.
  uint64_t loss_window_ms = 0;
  std::optional<uint64_t> loss_window_max_ms = 0;
};

// A producer by its unfinished jobs.
struct ProducerShare {
  std::string id;  // hexadecimal
  uint64_t unfinished = 0;
};

// What new jobs are measured by; 0: no limit.
struct Limits {
  uint64_t max_queued = 0, max_memory = 0;
  uint64_t max_queued_per_producer = 0, submit_rate_per_producer = 0;
  uint64_t max_queues = 0;
};

struct MemoryStatus {
  uint64_t rss = 0, payload_bytes = 0;
  uint64_t jobs = 0;       // bookkeeping of jobs, as --max-memory counts it
  uint64_t output = 0;     // messages that wait for commits and for slow readers
  uint64_t transport = 0;  // messages handed to the network and not sent yet
  uint64_t input = 0;      // frames that wait for their turn
  uint64_t read_back = 0;  // payloads read back from the journal, or being read
};

// What the core holds of one kind: jobs, attempts, history, producers, sequences, keys, results,
// ...
struct HeldStatus {
  std::string kind;
  uint64_t count = 0, bytes = 0;
};

struct ConnectionStatus {
  uint64_t open = 0, limit = 0;
  uint64_t unread_bytes = 0;  // that libzmq holds for the loop, of all connections
  // By the broker, by reason, since this start.
  std::vector<std::pair<std::string, uint64_t>> closed;
};

struct Status {
  std::string state;       // recovering, serving, draining
  std::string fsync;       // always, interval:100ms, never
  std::string durability;  // confirmed, buffered
  std::string version;
  std::string broker;  // 8 hexadecimal digits
  uint64_t incarnation = 0;
  uint64_t uptime_ms = 0;
  uint64_t pid = 0;
  JobCounts jobs;
  Totals totals;
  std::vector<QueueStatus> queues;
  QueueSums other_queues;
  std::vector<WorkerStatus> workers;
  uint64_t producers = 0;                        // connected
  std::vector<ProducerShare> largest_producers;  // by unfinished jobs; at most kMaxProducersListed
  uint64_t unfinished_of_forgotten = 0;          // of producers that were forgotten
  Limits limits;
  JournalStatus journal;
  MemoryStatus memory;
  std::vector<HeldStatus> held;
  std::string history_start;        // job_text(): of older jobs that ended it is not known how
  std::string security = "none";    // or curve
  uint64_t keys = 0;                // on the allow-list
  uint64_t refused_handshakes = 0;  // since this start
  uint64_t slow_readers = 0;        // disconnected since this start
  ConnectionStatus connections;
  uint64_t log_lines_dropped = 0;  // since this start
};

}  // namespace millrace::admin
