// The confirmed jobs whose end a producer waits for, and which submission each of them was.
// Shape:   runs of consecutive jobs that are consecutive sequences too; a byte a job while a run is
//          incomplete, none after, so that 10 million outstanding jobs cost about 10 MB. Ended runs are
//          remembered: they tell a repeated answer from a contradiction; unless `forgetful`.
// Threads: one thread
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "producer/session/listener.h"

namespace millrace::producer {

class OutstandingJobs {
 public:
  explicit OutstandingJobs(bool forgetful = false) : forgetful_(forgetful) {}

  using Range = protocol::JobRange;
  using JobState = protocol::JobState;
  // A part of a range: these sequences, beginning with this job.
  using Visit = std::function<void(SeqRange, JobId)>;

  // Sequence seqs.first + i is job first_job + i. False if one of the jobs is there already, as
  // another sequence; then nothing is added. `keyed`: they have idempotency keys, so that other
  // sequences may be the same jobs.
  [[nodiscard]] bool add(SeqRange seqs, JobId first_job, protocol::Report report,
                         bool keyed = false);
  // The sequence is a job that another one of this session is already: they have one idempotency
  // key. The job's end is told for it too, when it is told next. The caller asks for it.
  void share(Seq seq, JobId job, protocol::Report report);
  bool knows(JobId job) { return !parts_of({job, 1}).empty(); }

  struct Visits {
    Visit ended;         // waited for until now
    Visit contradicted;  // had ended in another way
  };
  // The jobs ended: done, dead, or unknown (lost). Those that ended so before are skipped. False if
  // none of them is known here.
  bool end(Range jobs, JobState state, const Visits& visits);

  // A STATES answer says that the jobs ended. Those whose OUTCOME may follow, because a result or
  // an error is kept, are given to `again`: to be asked once more, after which they end without.
  void end_by_state(Range jobs, JobState state, const Visits& visits,
                    const std::function<void(Range)>& again);

  uint64_t pending() const { return pending_; }
  std::vector<Range> pending_ranges() const;
  // Whether one of these sequences is known as another job, or one of the jobs as another sequence
  // without a key.
  bool contradicts(SeqRange seqs, JobId first_job) const;
  // Gives each pending part to `visit` and forgets everything.
  void clear(const Visit& visit);

 private:
  // `expected` is seen by STATES as ended; its OUTCOME may still come.
  enum class Mark : uint8_t {
    pending,
    expected,
    done,
    dead,
    dropped,
    lost,
    over
  };  // dropped: cancelled or expired; over: it is not known any more how it ended

  struct Run {
    SeqRange seqs;
    protocol::Report report = protocol::Report::none;
    bool keyed = false;
    uint64_t pending = 0;
    Mark end = Mark::done;    // of all jobs, once the run is complete and `marks` empty
    std::vector<Mark> marks;  // empty: all pending, or complete and alike
  };
  using Runs = std::map<uint64_t, Run>;  // by first job
  struct Shared {
    Seq seq;
    protocol::Report report = protocol::Report::none;
    bool expected = false;
  };
  using Sharers = std::multimap<uint64_t, Shared>;  // by job

  // Offsets in a run, `to` exclusive.
  struct Part {
    Runs::iterator run;
    uint64_t from;
    uint64_t to;
  };

  static Mark mark_of(protocol::JobState state);
  static bool waits(Mark mark) { return mark == Mark::pending || mark == Mark::expected; }
  static void unfold(Run& run);
  static bool can_merge(const Runs::value_type& left, const Runs::value_type& right);
  std::vector<Part> parts_of(Range jobs);
  void end_part(const Part& part, Mark mark, const Visits& visits);
  void expect_part(const Part& part, JobState state, const Visits& visits,
                   const std::function<void(Range)>& again);
  void set(const Part& part, Mark mark);
  static void fold(Run& run);
  Runs::iterator merge_left(Runs::iterator at);
  void merge(const std::vector<Part>& parts);
  // Those that share a job of the range and still wait for its end.
  std::pair<Sharers::iterator, Sharers::iterator> sharers_of(Range jobs);
  Sharers::iterator end_shared(Sharers::iterator at, const Visits& visits);

  const bool forgetful_;
  Runs runs_;
  Sharers waiting_;
  std::map<Seq, JobId> shared_;  // those that wait, and those that did
  uint64_t pending_ = 0;
};

}  // namespace millrace::producer
