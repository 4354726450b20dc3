// Makes a history without gaps of one with gaps, so that a broker takes what is left of a damaged
// journal: between the records that are there it puts those that must have stood in the gap.
// Shape:   take() the records that are left in order, gap() where some are missing, finish();
//          `emit` gets the repaired history, which begins with a Checkpoint and has no other
//          1. Records without a gap come out as they went in.  2. A State that applies what comes
//          out is state(), and no record contradicts it.  3. A job whose Accepted is left is in the
//          repaired history; it may be in an earlier state than it was, and so run again.
//          4. A job whose Accepted is lost, but of which a Relocated is left, is accepted again from that,
//          if it is known beforehand: a first pass finds these, and a second one takes them as `ahead`.
//          5. A job that was lost keeps its number and ends cancelled; its sequence is forgotten, so
//          that a producer that still has it may send it again.
// Limits:  a gap of kMaxGap jobs; a record that jumps further is left out
// Threads: one
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/state/id_set.h"
#include "broker/core/state/state.h"

namespace millrace::offline {

using core::IdSet;
using protocol::JobRange;
using records::Record;

inline constexpr uint64_t kMaxGap = 1 << 27;

// Jobs that could not be saved.
struct Lost {
  JobRange jobs;
  bool is_exact = true;  // false: at most these; how many there were can't be told
};

// Relocated records, encoded.
using RelocatedJobs = std::map<JobId, std::string>;

class JournalRepairer {
 public:
  // With the state that does not have the record yet.
  using Emit = std::function<void(const Record&, const core::State& before)>;
  explicit JournalRepairer(Emit emit, RelocatedJobs ahead = {})
      : emit_(std::move(emit)), ahead_(std::move(ahead)) {}

  // What the batch that comes next says of its writer.
  void batch(BrokerId broker, uint64_t incarnation) {
    broker_ = broker, incarnation_ = incarnation;
  }
  // What contradicts the records before it, if anything; behind a gap something may.
  std::optional<std::string> take(const Record& record);
  // Up to so many bytes of records are missing here.
  void gap(uint64_t bytes);
  void finish();

  const core::State& state() const { return state_; }
  const std::vector<Lost>& lost() const { return lost_; }  // after finish()
  // Among them: those that a second pass saves which knows of these.
  const RelocatedJobs& unsaved() const { return unsaved_; }
  uint64_t left_out() const { return left_out_; }  // records that fit nowhere

 private:
  void repair(const records::Checkpoint& checkpoint);
  void repair(const records::Started& started);
  void repair(const records::Accepted& accepted);
  void repair(const records::Leased& leased);
  void repair(const records::Done& done);
  void repair(const records::Failed& failed);
  void repair(const records::Returned& returned);
  void repair(const records::Due& due);
  void repair(const records::Cancelled& cancelled);
  void repair(const records::Expired& expired);
  void repair(const records::Requeued& requeued);
  void repair(const records::Relocated& relocated);
  void repair(const records::ResultRetained& kept);
  void repair(const records::HistoryTrimmed& trimmed);
  template <typename Other>
  void repair(const Other& other) {
    put(other);
  }

  bool begin(const Record& record);
  void keep_early(const Record& record);
  void put(const Record& record);
  bool reach(JobId end);  // jobs below it are known; false if that is too far
  void fill(uint64_t count);
  void accept_again(const records::Relocated& relocated);
  void make_dead(const records::Relocated& relocated);
  void make_leased(records::Lease lease);
  void make_unleased(JobId job);
  void end_as_done(std::vector<JobRange> runs);
  template <typename Ending>
  void end_jobs(const std::vector<JobRange>& theirs, const std::vector<JobRange>& ours,
                Ending&& ending);
  void reconcile_ended(const records::Checkpoint& checkpoint);
  void reconcile_producers(const records::Checkpoint& checkpoint);
  void reconcile_queues(const records::Checkpoint& checkpoint);
  bool is_missing_elder(JobId job) const;
  void lose(const std::vector<JobRange>& runs, bool is_exact);

  Emit emit_;
  const RelocatedJobs ahead_;
  RelocatedJobs unsaved_;
  core::State state_;
  BrokerId broker_;
  Epoch next_epoch() const;  // that no lease had, as far as is known

  uint64_t incarnation_ = 0;
  WallMs time_{};  // of the last record that has one
  bool has_begun_ = false, contradicted_ = false;
  std::vector<std::string> early_;  // records that came before it had begun, encoded
  // Where the first Checkpoint is lost: of the jobs before this one it is not known how they ended.
  JobId unknown_below_;
  IdSet retired_jobs_;     // of these, those that the next Checkpoint does not know to have ended
  IdSet filled_;           // jobs that a record was made for
  uint64_t open_gap_ = 0;  // bytes lost since the last record that told how many jobs there were
  uint64_t gaps_at_end_ = 0;  // since the last record
  std::vector<Lost> lost_;
  uint64_t left_out_ = 0;
};

}  // namespace millrace::offline
