// What submit --resume does with each payload, from the joblog (what has ended) and the ledger
// beside it (what was sent and answered). A payload keeps its sequence over runs, so that the
// broker knows what it has had already, and a payload that is submitted anew gets one of the next
// round.
// Shape:   sequence = round × 2^40 + number of the payload, from 1
//          A round begins only when everything of the one before is answered. The broker's floor is
//          therefore never above what is sent again.
//          The ledger's last line may be torn: a job that only the joblog names was confirmed.
// Threads: immutable
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "producer/client/ledger.h"
#include "producer/session/rounds.h"
#include "producer/submit/joblog.h"

namespace millrace::producer {

class ResumePlan {
 public:
  enum class Act {
    submit,  // with its sequence of this round: never sent, or sent and unanswered
    again,   // in the next round: it failed, or was rejected
    follow,  // confirmed, and its end is not known yet
    fetch,   // ended and logged, and the file of results does not have it
    skip,
  };
  struct Mode {
    bool wait = false;
    bool failed_again = false;  // --resume-failed
  };

  ResumePlan() = default;  // nothing was ever sent
  ResumePlan(const JoblogEntries& joblog, const LedgerEntries& ledger, Mode mode);

  Act act(uint64_t number) const;
  // Whether a line of the joblog names the payload, and it is another one.
  bool contradicts(uint64_t number, uint64_t hash) const;
  // Confirmed, but a crash came before its line.
  bool lacks_line(uint64_t number) const;
  // Ended and logged, and the file of results does not have it.
  bool lacks_result(uint64_t number) const;
  // The highest number that was ever sent or logged; the input can't be shorter.
  uint64_t numbers() const;
  uint64_t round() const { return round_; }
  Seq seq(uint64_t number) const;  // of the last time that it was sent
  JobId job(uint64_t number) const { return attempts_.at(number - 1).job; }
  BrokerId broker(uint64_t number) const { return brokers_.at(attempts_.at(number - 1).place); }
  // Where a payload was sent that has no answer, if that was one of several brokers; or null.
  const std::string* destination(uint64_t number) const;
  // What the joblog shows to have been sent and confirmed, and the ledger does not have: it lost
  // its end. With it, an audit of the ledger is exact again.
  const LedgerEntries& lost() const { return lost_; }
  // Who confirmed, and where something without an answer was sent ("": to the only broker).
  const std::vector<BrokerId>& brokers() const { return brokers_; }
  std::vector<std::string> destinations() const;

 private:
  enum class State : uint8_t { none, unknown, confirmed, rejected };
  struct Attempt {
    State state = State::none;
    uint16_t place = 0;  // in brokers_ if it is confirmed, otherwise in names_
    uint32_t round = 0;
    JobId job;
  };
  void note(SeqRange seqs, State state, uint16_t place, JobId first_job);
  void confirm_from_joblog(const LedgerEntries& ledger);
  void add_lost(const JoblogEntry& entry, uint64_t round, bool sent);
  const Attempt* attempt(uint64_t number) const;
  const JoblogEntry* line(uint64_t number) const;
  Act act_without_ledger(uint64_t number) const;
  bool ended(const Attempt& attempt, const JoblogEntry* line) const;

  Mode mode_;
  uint64_t round_ = 0;
  std::vector<BrokerId> brokers_;
  std::vector<std::string> names_;
  std::vector<Attempt> attempts_;
  JoblogEntries joblog_;
  LedgerEntries lost_;
};

}  // namespace millrace::producer
