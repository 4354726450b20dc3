// What must be true, told by a witness that sees everything: what producers submitted and were
// told, what workers ran, what the journal holds durably. Each of its functions is called when a
// thing has happened, and fails the run if it should not have.
// Shape:   producers and workers → answers and executions; ReferenceModel → durable records; Broker →
//          messages that leave it
//          Promises that are about order (a confirm after its record) are checked when a message
//          leaves; those about a job's life when the record becomes durable.
// Owns:    the totals
// Threads: one
// Source:  docs/SIMULATION.md, section 3, has the list
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/state/state.h"
#include "producer/session/listener.h"
#include "tests/sim/plan.h"
#include "worker/job/job.h"

namespace millrace::sim {

using protocol::Lease;

// What a payload asks of the handler that gets it.
struct ScriptedJob {
  bool kills_worker = false;
  worker::Completion completion;
  Nanos run = 0;
};
uint64_t hash_of(std::string_view payload);
ScriptedJob scripted_job_of(const Plan& plan, uint64_t payload_hash, uint64_t attempt);
std::string result_of(uint64_t payload_hash);

struct Submission {
  uint64_t payload_hash = 0;
  std::string queue;
  protocol::SubmitOptions options;
  enum Answer { none, confirmed, rejected } answer = none;
  JobId confirmed_as;
  JobId stored_as;         // by a durable record
  bool matched = false;    // the job is another submission's, with the same idempotency key
  bool abandoned = false;  // its producer is gone for good
  bool ended = false;      // the producer was told of the end
  bool forgotten = false;  // the process that waited for the end is gone
};

class Oracle {
 public:
  Oracle(World& world, const Plan& plan) : world_(world), plan_(plan) {}

  // Producers
  void submitted(const Uuid& producer, Seq seq, Submission submission);
  void submitted_again(const Uuid& producer, Seq seq);  // after a restart, from its spool
  void confirmed(const std::string& who, const Uuid& producer, const producer::Confirmed& event);
  void rejected(const Uuid& producer, const producer::Rejected& event);
  void ended(const std::string& who, const Uuid& producer, const producer::Ended& event);
  void told(const std::string& who, protocol::JobRange jobs, protocol::JobState state);
  void forgotten(const Uuid& producer, Seq below);  // by a process that begins again from there
  void contradicted(const std::string& who, producer::SeqRange seqs, JobId job);
  void abandoned(const Uuid& producer);
  const Submission* find(const Uuid& producer, Seq seq) const;

  // Workers
  void worker_began(const Uuid& worker, std::string name, uint64_t threads);
  void worker_ended(const Uuid& worker);
  void touched(const Uuid& worker);  // by a fault: it may lose leases for some time
  void touched_all();
  void granted(const Uuid& worker, const protocol::LeaseGrant::Entry& entry, uint64_t most_credit);
  void let_go(const Uuid& worker, Lease lease);  // confirmed, or stale
  void run_began(const Uuid& worker, const worker::Job& job);
  void run_ended(const worker::Finished& finished);

  // The journal, before `state`, which has all records before, applies it.
  void durable(const records::Record& record, const core::State& state, SegmentId segment);
  // Time ended this: on the broker's wall clock it had come.
  void timely(const records::Record& record, WallMs now) const;
  void wall_jumped() { wall_jumped_ = true; }
  bool has_wall_jumped() const { return wall_jumped_; }
  // A message leaves the broker.
  void leaves(const protocol::FromBroker& message, const Uuid& peer,
              const core::State& durable) const;

  // All is healed and quiet.
  void check_totals(const core::State& durable) const;
  SegmentId oldest_needed()
      const;  // the first segment in which something stands that is needed; 0: none

  struct Totals {
    uint64_t submitted = 0, confirmed = 0, rejected = 0, unknown = 0, executed = 0, restarts = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  struct QueueTotals {
    records::QueueSettings settings;
    std::map<uint8_t, std::set<JobId>> ready;  // by priority, but for suspects
    std::set<JobId> suspects;                  // that are ready
    uint64_t leased = 0;
    uint64_t length = 0;  // jobs that have not ended
    // Leases of this process, those before a higher priority, and those since the lower one that is
    // oldest waits; by priority, how many went by each producer with ready jobs.
    uint64_t turns = 0, out_of_turn = 0, passed_over = 0;
    JobId oldest;  // that waits behind a higher priority
    struct Passed {
      JobId oldest;  // of the one that waits
      uint64_t leases = 0;
      std::set<Uuid> others;  // that had them
    };
    std::map<uint8_t, std::map<Uuid, Passed>> passed;
    void forget_turns() {
      turns = out_of_turn = passed_over = 0;
      passed.clear();
    }
  };
  struct Job {
    Uuid producer;
    Seq seq;
    SegmentId segment;
    QueueTotals* queue = nullptr;
    uint8_t priority = 0;
    protocol::JobState state = protocol::JobState::unknown;
    bool was_dead = false;  // whoever heard that, heard the truth
    WallMs due{}, expires{};
    Epoch last;
    Uuid owner;
    unsigned failures = 0, crashes = 0;
    bool suspect = false;  // its last attempt was charged when its worker or its lease was lost
    Nanos leased_at = 0;
    bool kept = false;      // its result
    bool heard_of = false;  // its end, by a producer
    bool orphaned = false;  // its producer was forgotten: such jobs share one turn, after a restart
  };
  struct Run {
    JobId job;
    Uuid worker;
    bool began = false, ended = false;
    worker::Completion::Kind kind{};
  };
  struct WorkerTotals {
    std::string name;
    uint64_t threads = 1;
    bool alive = true;
    Nanos touched = 0;
    std::map<JobId, Epoch> held;
  };

  void check(const records::Accepted& record, SegmentId segment);
  void check(const records::Relocated& record, SegmentId segment);
  void check(const records::ResultRetained& record, SegmentId segment);
  void check(const records::Leased& record);
  void check(const records::Done& record);
  void check(const records::Failed& record);
  void check(const records::Returned& record);
  void check(const records::Due& record);
  void check(const records::Matched& record);
  void check(const records::Cancelled& record);
  void check(const records::Expired& record);
  void check(const records::Requeued& record);
  void check(const records::QueueSet& record);
  void check(const records::Started& record);
  void check(const records::Absent& record);
  void check(const records::Collected& record);
  void check(const records::ProducerGone& record);
  template <typename Other>
  void check(const Other&) {}

  Submission& at(const Uuid& producer, Seq seq);
  Job& job_at(JobId id);
  void check_charge(JobId id, const Job& job) const;
  void check_apart(JobId id, const Job& job) const;
  void check_survivor(const Job& job, Lease lease, records::ReturnReason reason) const;
  bool is_excused(const WorkerTotals& worker) const;
  void move(JobId id, Job& job, protocol::JobState state);
  void release(Job& job);  // its segment
  unsigned attempts_of(const Job& job) const;
  bool keeps_results() const;
  bool is_true(const Job& job, protocol::JobState told) const;
  void check_order(const std::vector<JobId>& leased) const;
  static uint64_t count_of(const records::Leased& record);
  void check_turns(const std::vector<JobId>& leased);
  void check_fair(QueueTotals& queue, const std::vector<JobId>& leased);

  World& world_;
  const Plan& plan_;
  std::map<Uuid, std::vector<Submission>> producers_;  // by sequence, from 1
  std::vector<Job> jobs_;                              // by number, from 1
  std::unordered_map<uint64_t, Run> runs_;             // by epoch
  std::map<Uuid, WorkerTotals> workers_;
  std::map<Uuid, std::map<Epoch, JobId>> leases_;  // of each worker, by durable records
  // Of the grace window: periods that passed while a worker was away, and starts since the first
  // did.
  struct Absence {
    uint8_t periods = 0;
    uint64_t restarts = 0;
  };
  std::map<Uuid, Absence> away_;
  std::set<Uuid> outwaited_;  // whose window has just ended, and began before the last start
  std::map<std::string, QueueTotals, std::less<>> queues_;
  struct Key {
    JobId job;
    WallMs time;
  };
  std::map<std::string, Key> keys_;  // by queue and key
  bool wall_jumped_ = false;
  std::map<SegmentId, uint64_t> needed_;  // jobs that are not done, and results that are kept
  Nanos all_touched_ = 0;
  Totals totals_;
};

}  // namespace millrace::sim
