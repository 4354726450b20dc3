// The broker's durable state: a function of the records, and of nothing else.
// Shape:   apply(record) is the only way to change it, live and in recovery, so live state equals
//          replayed state by construction.
//          1. Every job below next_job is live (ready, leased, retry-wait), dead or done: done is
//             written down too (as runs), never concluded from absence.
//          2. A leased job has an entry in leases; its epoch is above every earlier one of the job.
//             A job that is in none of these was done in a segment that is gone: an elder; records
//             about it are counted and change nothing else.
//          3. Of a job that is ready or in retry-wait and was leased before, the last epoch is kept.
// Units:   wall-clock ms for dues; Mono only for when a lease began in this process (not durable)
// Limits:  docs/PROTOCOL.md, part 6
// Errors:  a record that contradicts the state is a broken invariant when live; in recovery check()
//          says so first
// Threads: one
// Source:  etcd's raft (a core whose output is persisted before it is sent)
#pragma once

#include <tsl/robin_map.h>

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/id_set.h"
#include "broker/core/producers.h"
#include "broker/core/slot_table.h"
#include "broker/records/records.h"

namespace millrace::core {

using protocol::JobState;
using protocol::Report;
using records::Lease;
using records::Record;

using QueueIndex = uint16_t;
using WorkerIndex = uint32_t;

struct Job {
  ProducerIndex producer = 0;
  uint32_t attempts = 0;
  QueueIndex queue = 0;
  JobState state = JobState::ready;
  Report report = Report::none;
  uint8_t max_attempts = 0;  // 0: the broker's default
  uint8_t failures = 0;
  uint8_t crashes = 0;
};

struct LeaseInfo {
  Epoch epoch;
  WorkerIndex worker = 0;
  Mono since;  // when it began, or was last extended; this process only
};

// Why a job last came back, for people.
struct Trouble {
  std::string worker;
  std::string error;
  WallMs time;
};

struct KeptOutcome {
  JobState state = JobState::done;
  uint32_t attempts = 0;
  std::string result;
};

struct Queue {
  std::string name;
  IdSet ready;
  uint64_t leased = 0, retry_wait = 0, dead = 0, done = 0;
};

class State {
 public:
  // Begins empty; a Checkpoint as first record fills it.
  void apply(const Record& record, Mono now);
  // What is wrong with applying this record now, if anything: for recovery, where a journal may
  // contradict itself.
  std::optional<std::string> check(const Record& record) const;
  records::Checkpoint checkpoint() const;

  JobState state_of(JobId job) const;
  const Job* find(JobId job) const { return jobs_.find(job); }  // live or dead
  const LeaseInfo* lease_of(JobId job) const;
  Epoch last_epoch_of(JobId job) const;  // of a job that is not leased; 0 if never leased
  bool won(Lease lease) const;           // this epoch did the job, as far as is remembered
  const Trouble* trouble_of(JobId job) const;
  const KeptOutcome* outcome_of(JobId job) const;

  QueueIndex queue_index(std::string_view name);  // makes it; the name must be valid
  bool has_room_for_queue(std::string_view name) const;
  const std::deque<Queue>& queues() const { return queues_; }

  WorkerIndex pin_worker(const Uuid& id);  // its index stays while pinned
  void unpin_worker(WorkerIndex index);
  uint64_t leases_of(WorkerIndex index) const { return workers_[index].leases; }
  bool is_pinned(WorkerIndex index) const { return workers_[index].pinned; }
  const Uuid& worker_id(WorkerIndex index) const { return workers_[index].id; }
  void extend(JobId job, Mono now);
  template <typename Visit>
  void for_each_lease(Visit&& visit) const {
    for (const auto& [job, lease] : leases_) visit(job, lease);
  }

  const std::set<std::pair<WallMs, JobId>>& due() const { return due_; }
  const IdSet& dead() const { return dead_; }
  Producers& producers() { return producers_; }
  const Producers& producers() const { return producers_; }

  BrokerId broker() const { return broker_; }
  void set_broker(BrokerId broker) { broker_ = broker; }  // a new journal's, before its Checkpoint
  uint64_t incarnation() const { return incarnation_; }
  JobId next_job() const { return next_job_; }
  Epoch next_epoch() const { return next_epoch_; }
  const records::Counts& counts() const { return counts_; }
  uint64_t ready_jobs() const;
  uint64_t leased_jobs() const { return leases_.size(); }
  uint64_t waiting_jobs() const { return due_.size(); }
  uint64_t live_jobs() const { return jobs_.size() - dead_.size(); }

  // Jobs that ended since the last call: their payloads are no longer needed.
  std::vector<JobRange> take_retired() { return std::exchange(retired_, {}); }

  // Everything durable, one line a fact, ordered: to compare two states.
  std::string describe() const;

 private:
  struct Worker {
    Uuid id;
    uint64_t leases = 0;
    bool pinned = false;
    bool used = false;
  };
  struct Winner {
    JobId job;
    Epoch epoch;
  };
  static constexpr size_t kWinners = 1 << 17;  // recent completions, so that a resent DONE is known

  void on(const records::Started& record, Mono now);
  void on(const records::Accepted& record, Mono now);
  void on(const records::Leased& record, Mono now);
  void on(const records::Done& record, Mono now);
  void on(const records::Failed& record, Mono now);
  void on(const records::Returned& record, Mono now);
  void on(const records::Due& record, Mono now);
  void on(const records::Collected& record, Mono now);
  void on(const records::ProducerGone& record, Mono now);
  void on(const records::Checkpoint& record, Mono now);

  WorkerIndex worker_index(const Uuid& id);
  void free_if_unused(WorkerIndex index);
  void end_lease(JobId job, Job& live, Epoch epoch);
  void leave_waiting(JobId job, Job& live);
  void finish(JobId job, Epoch epoch);
  void bury(JobId job, Job& live);
  void wait_until(JobId job, Job& live, WallMs due);
  void make_ready(JobId job, Job& live);
  void keep_outcome(JobId job, const Job& live, std::string_view result);

  BrokerId broker_;
  uint64_t incarnation_ = 0;
  JobId next_job_{1};
  Epoch next_epoch_;
  records::Counts counts_;
  bool begun_ = false;

  SlotTable<Job> jobs_;
  std::deque<Queue> queues_;
  std::unordered_map<std::string, QueueIndex> queue_names_;
  IdSet done_;
  IdSet dead_;
  tsl::robin_map<JobId, LeaseInfo> leases_;
  std::unordered_map<JobId, Epoch> last_epochs_;
  std::set<std::pair<WallMs, JobId>> due_;
  std::unordered_map<JobId, WallMs> due_of_;
  std::unordered_map<JobId, Trouble> troubles_;
  Producers producers_;

  std::vector<Worker> workers_;
  std::unordered_map<Uuid, WorkerIndex> worker_names_;

  std::map<JobId, KeptOutcome> outcomes_;
  size_t outcome_bytes_ = 0;

  std::vector<Winner> winners_ = std::vector<Winner>(kWinners);
  std::vector<JobRange> retired_;
};

}  // namespace millrace::core
