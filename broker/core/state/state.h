// The broker's durable state: a function of the records, and of nothing else.
// Shape:   apply(record) is the only way to change it, live and in recovery, so live state equals
//          replayed state by construction.
//          1. Every job below next_job is live (scheduled, ready, leased, retry-wait), dead, done,
//             cancelled or expired: the last three are written down too (as runs), never concluded
//             from absence.
//          2. A leased job has an entry in leases; its epoch is above every earlier one of the job.
//             A job that is in none of these came in a segment that is gone: an elder. It has
//             ended, or a Relocated record follows; until then records about it are counted and
//             change nothing else. Below history_start an ended job is in none of these for good.
//          3. Of a job that is ready or in retry-wait and was leased before, the last epoch and
//          its worker are kept.
//          4. A suspect is a job whose last failure was that its worker vanished or its lease ran out.
//          When ready it waits among the suspects of its queue, others in the ready list.
// Units:   wall-clock ms for dues; Mono only for when a lease began in this process (not durable)
// Limits:  docs/PROTOCOL.md, section 6
// Errors:  a record that contradicts the state is a broken invariant when live; in recovery check()
//          says so first
// Threads: one
// Source:  etcd's raft (a core whose output is persisted before it is sent)
#pragma once

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/state/id_set.h"
#include "broker/core/state/lease_table.h"
#include "broker/core/state/memory.h"
#include "broker/core/state/never_leased.h"
#include "broker/core/state/producers.h"
#include "broker/core/state/ready_list.h"
#include "broker/core/state/slot_table.h"
#include "broker/records/records.h"

namespace millrace::core {

using protocol::JobState;
using protocol::Report;
using records::Lease;
using records::Record;

using QueueIndex = uint32_t;

struct Job {
  ProducerIndex producer = 0;
  QueueIndex queue = 0;
  uint16_t attempts = 0;
  JobState state : 4 = JobState::ready;
  Report report : 2 = Report::none;
  bool expires : 1 = false;  // there is an entry in the expiries
  bool suspect : 1 = false;
  uint8_t max_attempts = 0;  // 0: the queue's default, or the broker's
  uint8_t failures = 0;
  uint8_t crashes = 0;
  uint8_t priority = protocol::kDefaultPriority;

  Rank rank() const { return {priority, producer}; }
};
static_assert(sizeof(Job) <= 16);

// How the last lease of a job was named, and who had it: its completion may still come. The worker
// is zeros where a journal of version 1 did not say.
struct LastLease {
  Epoch epoch;
  Uuid worker;
};

using records::AttemptFailure;

// The result of a job that is done, for a producer that has not said that it has it.
struct RetainedResult {
  uint16_t attempts = 0;
  WallMs time;  // when it was done
  std::string bytes;
};

// A slot of the queue table; without a name it is free, and everything in it is 0.
struct Queue {
  std::string name;
  ReadyList ready;  // but for suspects
  records::QueueSettings settings;
  uint64_t suspects = 0;  // that are ready
  uint64_t scheduled = 0, leased = 0, retry_wait = 0, dead = 0, done = 0;
  Mono empty_since{};    // as far as the sweep of empty queues has seen; this process only
  bool changed = false;  // it is among those of take_changed_queues()

  explicit Queue(uint64_t* memory_bytes) : ready(memory_bytes) {}
  bool in_use() const { return !name.empty(); }
  bool has_settings() const { return settings != records::QueueSettings{}; }
  // Nothing durable would be lost with it.
  bool is_empty() const { return length() + dead == 0 && !has_settings(); }
  uint64_t ready_jobs() const { return ready.size() + suspects; }
  uint64_t length() const { return scheduled + ready_jobs() + leased + retry_wait; }
};

// How much of what is only kept for a while is kept.
struct RetentionLimits {
  Millis key_window = std::chrono::hours(24);
  size_t key_bytes = 16 << 20;
  Millis result_ttl = std::chrono::hours(1);
  size_t result_bytes = 64 << 20;
  size_t results = 65536;
};

// What settings of queues may take in a Checkpoint, each counted with its longest encoding. Those
// of a journal that has more stay.
inline constexpr uint64_t kMaxQueueSettingBytes = 4 << 20;
inline constexpr size_t kMaxTotals = 16384;  // of queues, in a Checkpoint

class State {
 public:
  explicit State(RetentionLimits retention = {}) : retention_(retention) {}

  // Begins empty; a Checkpoint as first record fills it.
  void apply(const Record& record, Mono now);
  // What is wrong with applying this record now, if anything: for recovery, where a journal may
  // contradict itself.
  std::optional<std::string> check(const Record& record) const;
  // Of this, what no history makes right: such a record must not be applied.
  static std::optional<std::string> check_form(const Record& record);
  records::Checkpoint checkpoint() const;
  // A live or dead job as a record, without its payload; views hold until the state changes.
  records::Relocated relocated(JobId job) const;
  records::ResultRetained kept(JobId job) const;  // likewise a result

  // A snapshot is the checkpoint, these, each job that is not among them as relocated() tells it,
  // the results and the recent winners. Restored into a fresh state, the checkpoint first.
  std::vector<NeverLeased> never_leased() const;
  std::vector<JobId> leased_before() const;
  const std::map<JobId, RetainedResult>& results() const { return results_; }
  std::vector<Lease> winners() const;
  void restore_winner(Lease lease) {
    winners_[lease.job.value % kWinners] = {lease.job, lease.epoch};
  }
  void restore(const NeverLeased& never_leased);
  void restore(JobId job, RetainedResult result) { retain_result(job, std::move(result)); }

  JobState state_of(JobId job) const;
  const Job* find(JobId job) const { return jobs_.find(job); }  // live or dead
  // Live and dead jobs by id, from `first` on, until visit(id, job) returns false.
  template <typename Visit>
  void visit_jobs(JobId first, Visit&& visit) const {
    jobs_.visit_from(first, visit);
  }
  // The same as far as the work goes; returns where to go on (SlotTable::visit_some).
  template <typename Visit>
  std::optional<JobId> visit_some_jobs(JobId first, uint64_t* work, Visit&& visit) const {
    return jobs_.visit_some(first, next_job_, work, visit);
  }
  const LeaseInfo* lease_of(JobId job) const { return leases_.find(job); }
  // Of a job that is ready or in retry-wait and was leased before.
  const LastLease* last_lease_of(JobId job) const;
  bool won(Lease lease) const;  // this epoch did the job, as far as is remembered
  const AttemptFailure* last_failure_of(JobId job) const;  // the last one
  const std::vector<AttemptFailure>* history_of(
      JobId job) const;  // the last kMaxHistory, oldest first
  std::optional<WallMs> due_of(JobId job) const;
  std::optional<WallMs> expiry_of(JobId job) const;
  // The job that an idempotency key of this queue stands for at this time.
  std::optional<JobId> job_of_key(std::string_view queue, std::string_view key, WallMs now) const;
  const RetainedResult* result_of(JobId job) const;
  // Results that are too old at this time, or too many: the oldest.
  std::vector<JobRange> surplus_results(WallMs now) const;

  QueueIndex queue_index(std::string_view name);  // makes it; the name must be valid
  std::optional<QueueIndex> find_queue(std::string_view name) const;
  bool has_queue(std::string_view name) const { return queue_names_.contains(name); }
  uint64_t queue_count() const { return queue_names_.size(); }
  const std::deque<Queue>& queues() const { return queues_; }  // by index; some slots are free
  // visit(index, queue)
  template <typename Visit>
  void for_each_queue(Visit&& visit) const {
    for (QueueIndex index = 0; index < queues_.size(); ++index)
      if (queues_[index].in_use()) visit(index, queues_[index]);
  }
  // Whether a queue that has none may have settings of its own.
  bool has_room_for_settings(std::string_view name) const {
    return setting_bytes_ + setting_bytes(name) <= kMaxQueueSettingBytes;
  }
  // An empty queue's name and slot are free again. Not durable: where the queue is named again,
  // live or in recovery, it is made again.
  void remove_queue(QueueIndex index);
  void set_empty_since(QueueIndex index, Mono since) { queues_[index].empty_since = since; }
  // Suspects that are ready, of each queue that has any.
  const std::map<QueueIndex, IdSet>& suspects() const { return suspects_; }
  // Queues with jobs that became ready, leases that ended or new settings since the last call.
  std::vector<QueueIndex> take_changed_queues();

  WorkerIndex pin_worker(const Uuid& id);  // its index stays while pinned
  void unpin_worker(WorkerIndex index);
  uint64_t leases_of(WorkerIndex index) const { return workers_[index].leases; }
  uint64_t suspects_of(WorkerIndex index) const { return workers_[index].suspects; }  // among them
  bool is_pinned(WorkerIndex index) const { return workers_[index].pinned; }
  const Uuid& worker_id(WorkerIndex index) const { return workers_[index].id; }
  LeaseTable& leases() { return leases_; }  // which has what of a lease is not durable
  const LeaseTable& leases() const { return leases_; }
  // visit(index), for each worker that has a lease or is pinned.
  template <typename Visit>
  void for_each_worker(Visit&& visit) const {
    for (WorkerIndex index = 0; index < workers_.size(); ++index)
      if (workers_[index].used) visit(index);
  }

  // Periods of the grace window that workers with leases have been away, over all starts.
  const std::map<Uuid, uint8_t>& absent() const { return absent_; }

  const std::set<std::pair<WallMs, JobId>>& due() const { return due_; }
  const std::set<std::pair<WallMs, JobId>>& expiries() const {
    return expiries_;
  }  // of jobs not leased
  const IdSet& dead() const { return dead_; }
  Producers& producers() { return producers_; }
  const Producers& producers() const { return producers_; }

  BrokerId broker() const { return broker_; }
  void set_broker(BrokerId broker) { broker_ = broker; }  // a new journal's, before its Checkpoint
  bool has_begun() const { return begun_; }
  uint64_t incarnation() const { return incarnation_; }
  JobId next_job() const { return next_job_; }
  // Of a job below it that is neither live nor dead it is only known that it has ended.
  JobId history_start() const { return history_start_; }
  uint64_t history_runs() const {
    return done_.run_count() + cancelled_.run_count() + expired_.run_count();
  }
  // Below which jobs to trim the history so that `most` of its runs are left.
  JobId history_excess(uint64_t most) const;
  Epoch next_epoch() const { return next_epoch_; }
  Epoch first_epoch() const { return first_epoch_; }  // of this incarnation
  bool knows_epochs() const { return leases_.size() + last_leases_.size() > 0; }
  const records::Counts& counts() const { return counts_; }
  uint64_t ready_jobs() const { return live_jobs() - leased_jobs() - due_.size(); }
  uint64_t leased_jobs() const { return leases_.size(); }
  uint64_t retry_wait_jobs() const { return retry_wait_; }
  uint64_t scheduled_jobs() const { return due_.size() - retry_wait_; }
  uint64_t live_jobs() const { return jobs_.size() - dead_.size(); }
  // Of queues, and of jobs that have not ended or are dead, with their failed attempts: what
  // --max-memory bounds. All else has limits of its own, and would not become less because jobs are
  // rejected.
  uint64_t memory_bytes() const { return job_bytes() + attempt_bytes_ + queue_bytes(); }
  std::vector<Held> held() const;                            // all that the state holds, by kind
  uint64_t history_bytes() const { return history_bytes_; }  // of attempts, in a record

  // Jobs of which nothing is needed any more since the last call. Jobs that are done and whose
  // result
  // is kept come first as settled: then the result is all that is needed.
  struct Settled {
    JobId job;
    uint64_t result_bytes = 0;
  };
  std::vector<Settled> take_settled() { return std::exchange(settled_, {}); }
  std::vector<JobRange> take_retired() { return std::exchange(retired_, {}); }

  // Whether the queues' and workers' counts add up to the tables'; looks at each of them.
  bool totals_agree() const;

  // Everything durable, one line a fact, ordered: to compare two states.
  std::string describe() const;

 private:
  struct Worker {
    Uuid id;
    uint64_t leases = 0, suspects = 0;
    bool pinned = false;
    bool used = false;
  };
  struct Winner {
    JobId job;
    Epoch epoch;
  };
  static constexpr size_t kMaxHistory = 16;
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
  void on(const records::Matched& record, Mono now);
  void on(const records::Cancelled& record, Mono now);
  void on(const records::Expired& record, Mono now);
  void on(const records::Requeued& record, Mono now);
  void on(const records::QueueSet& record, Mono now);
  void on(const records::Relocated& record, Mono now);
  void on(const records::ResultRetained& record, Mono now);
  void on(const records::HistoryTrimmed& record, Mono now);
  void on(const records::Absent& record, Mono now);

  static uint64_t setting_bytes(std::string_view name) {
    constexpr uint64_t kNumbers = 90;
    return name.size() + kNumbers;
  }
  uint64_t job_bytes() const;
  uint64_t queue_bytes() const {
    constexpr uint64_t kQueue =
        640;  // with its Flow and its places in tables: LIMITS.md has a measurement
    return queue_count() * kQueue + queue_name_bytes_;
  }
  WorkerIndex worker_index(const Uuid& id);
  void free_if_unused(WorkerIndex index);
  void drop_lease(JobId job, const Job& live);
  void end_lease(JobId job, Job& live, Epoch epoch);
  void leave(JobId job, Job& live);  // whatever state it is in
  void leave_waiting(JobId job, Job& live);
  void remove(JobId job, Job& live);
  void end(JobId job, Job& live);  // otherwise than done
  void mark_dead(JobId job, Job& live);
  void wait_until(JobId job, Job& live, WallMs due, JobState state);
  void make_ready(JobId job, Job& live);
  void leave_suspects(JobId job, const Job& live);
  bool is_suspect(JobId job, const Job& live) const;
  Queue& change(QueueIndex index);
  void note(JobId job, Job& live, std::string_view worker, std::string_view error, WallMs time);
  void add_attempts(const std::vector<AttemptFailure>& attempts);
  void subtract_attempts(const std::vector<AttemptFailure>& attempts);
  void retain_result(JobId job, RetainedResult result);
  void evict_result(JobId job);
  void keep_key(std::string_view queue, std::string_view key, JobId job, WallMs time);
  void retire(JobRange jobs);
  std::vector<records::QueueTotal> largest_totals() const;
  void set_totals(const std::vector<records::QueueTotal>& totals);

  RetentionLimits retention_;
  BrokerId broker_;
  uint64_t incarnation_ = 0;
  JobId next_job_{1};
  JobId history_start_{1};
  Epoch next_epoch_, first_epoch_;
  records::Counts counts_;
  bool begun_ = false;

  SlotTable<Job> jobs_;
  std::deque<Queue> queues_;
  std::unordered_map<std::string_view, QueueIndex> queue_names_;  // the names are those in queues_
  std::set<QueueIndex> free_queues_;                              // below the last one in use
  std::vector<QueueIndex> changed_queues_;
  std::map<QueueIndex, IdSet> suspects_;
  uint64_t suspect_bytes_ = 0;  // of the sets in it
  uint64_t queue_name_bytes_ = 0, setting_bytes_ = 0;
  uint64_t retry_wait_ = 0;  // jobs in this state, over all queues
  IdSet done_, cancelled_, expired_;
  IdSet dead_;
  LeaseTable leases_;
  std::unordered_map<JobId, LastLease> last_leases_;
  std::set<std::pair<WallMs, JobId>> due_;
  SlotTable<WallMs> due_of_;
  std::set<std::pair<WallMs, JobId>> expiries_;
  SlotTable<WallMs> expiry_of_;
  std::unordered_map<JobId, std::vector<AttemptFailure>> failures_;
  uint64_t history_bytes_ = 0, attempt_bytes_ = 0, attempt_count_ = 0;
  uint64_t ready_bytes_ = 0;  // of all queues
  Producers producers_;

  std::vector<Worker> workers_;
  std::vector<WorkerIndex> free_workers_;
  std::map<Uuid, uint8_t> absent_;
  std::unordered_map<Uuid, WorkerIndex> worker_names_;

  std::map<JobId, RetainedResult> results_;
  std::set<std::pair<WallMs, JobId>> result_order_;
  size_t result_bytes_ = 0;
  uint64_t result_memory_bytes_ = 0;  // of their bytes, as string_bytes()

  struct Key {
    JobId job;
    WallMs time;
  };
  std::unordered_map<std::string, Key> keys_;  // "queue\0key"
  std::deque<std::pair<WallMs, std::string>> key_order_;
  size_t key_bytes_ = 0;

  std::vector<Winner> winners_ = std::vector<Winner>(kWinners);
  std::vector<Settled> settled_;
  std::vector<JobRange> retired_;
};

}  // namespace millrace::core
