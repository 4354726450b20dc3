// What submit prints of its jobs, its joblog, and the counts for its summary.
// Shape:   expect() before a payload is handed over, then the session's events; flush() writes results
//          first and the joblog's lines behind them, so a line means that its result was written. Ids
//          are in the lines, which therefore come first: if nobody reads the ids any more, and this
//          process ends by SIGPIPE, the joblog has what is known
// Limits:  in order of submission, held() bytes wait for an end before them
// Errors:  cant_create, io: the file of results, the joblog
// Owns:    the files
// Threads: one thread
#pragma once

#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "producer/session/listener.h"
#include "producer/submit/in_order.h"
#include "producer/submit/joblog.h"

namespace millrace::producer {

class SubmitOutput : public Listener {
 public:
  struct Form {
    bool wait = false;
    std::string results;      // a file or -; empty: stdout, if results are wanted
    bool json = false;        // nothing on stdout but the summary
    bool lines = false;       // sequences are line numbers
    bool keep_order = false;  // results in the order of submission
    bool append = false;      // to the file of results
    std::string joblog;       // empty: none
    std::string queue;
  };
  static Result<std::unique_ptr<SubmitOutput>> open(Form form);
  ~SubmitOutput() override;

  bool wants_results() const { return form_.wait || !form_.results.empty(); }
  // A payload is about to be submitted or followed, as this sequence; those of a round ascend.
  void expect(Seq seq, std::string_view payload);
  // A job that an earlier run has logged is followed for its result alone.
  void expect_result(Seq seq);
  // Nobody can be asked for the result of this payload any more.
  void miss_result(uint64_t number);
  // A payload of an earlier run that was confirmed, but not logged.
  void log_confirmed(uint64_t number, std::string_view payload, BrokerId broker, JobId job);
  // After a failure what was to be written is dropped: no line may follow a result that is not
  // there.
  Result<void> flush();
  // Jobs whose results were written since the last call, of those that collects() left.
  std::vector<JobsAt> take_written();
  uint64_t held() const { return texts_.held(); }

  uint64_t confirmed() const { return confirmed_; }
  uint64_t known() const { return known_; }  // of these: the jobs were there before
  uint64_t rejected() const { return rejected_; }
  // Every rejection was for now, and may not come again after this time; 0 if one was for good.
  Millis retry_after() const { return rejected_for_good_ ? Millis(0) : retry_after_; }
  uint64_t done() const { return done_; }
  uint64_t dead() const { return dead_; }
  uint64_t dropped() const { return dropped_; }
  uint64_t lost() const { return lost_; }
  uint64_t failed() const { return dead_ + dropped_ + lost_ + rejected_; }
  // Logged by an earlier run, and their results are neither in its file nor with the broker.
  uint64_t missing() const { return missing_; }
  const std::string& first_missing() const { return first_missing_; }  // numbers of a few of them
  // Done, and reported without the result: the broker no longer kept it.
  uint64_t without_result() const { return without_result_; }
  bool buffered() const { return buffered_; }
  const std::string& first_rejection() const { return first_rejection_; }

  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void postponed(const Rejected& event) override;
  void ended(const Ended& event) override;
  void spooled(SeqRange seqs) override;
  // What waits for its turn stays with the broker, so that a resume can still get it.
  bool collects(protocol::JobRange) override { return !keeps_for_resume(); }

 private:
  explicit SubmitOutput(Form form) : form_(std::move(form)) {}
  Result<void> open_results();
  Result<void> write_pending();
  Result<void> write_rows();
  // Whether texts are printed in the order of submission: ids always.
  bool in_order() const { return form_.keep_order || (file_ && !wants_results()); }
  bool keeps_for_resume() const { return form_.keep_order && joblog_; }
  void print(SeqRange seqs, std::string text);
  void give_out(SeqRange seqs, const std::string& text);
  void log(Seq seq, JoblogRow row);
  uint64_t& count_of(protocol::JobState state);

  Form form_;
  FILE* file_ = nullptr;  // of the results, or stdout; null: nothing is printed
  bool owns_file_ = false;
  std::optional<Joblog> joblog_;
  std::string pending_, pending_rows_;
  InOrder texts_{[this](SeqRange seqs, const std::string& text) { give_out(seqs, text); }};
  InOrder rows_{[this](SeqRange, const std::string& text) { pending_rows_ += text; }};

  // For the joblog: payloads that are on their way.
  struct OnItsWay {
    Seq seq;
    uint64_t hash;
    WallMs start;
    Mono since;  // for the run time: the wall clock may be set meanwhile
    bool logged = false;
  };
  using Round = std::deque<OnItsWay>;  // ascending
  std::map<uint64_t, Round> on_their_way_;
  std::set<Seq> logged_before_;        // only their results are wanted
  std::map<Seq, JobsAt> uncollected_;  // results that the broker keeps until they are written
  std::vector<JobsAt> written_;        // and those that are, once pending_ is empty

  uint64_t confirmed_ = 0, known_ = 0, rejected_ = 0, done_ = 0, dead_ = 0, lost_ = 0;
  uint64_t dropped_ = 0;  // cancelled or expired
  uint64_t missing_ = 0, without_result_ = 0;
  std::string first_missing_;
  bool buffered_ = false;
  bool postponed_logged_ = false;
  uint64_t rejections_logged_ = 0;
  std::string first_rejection_;
  bool rejected_for_good_ = false;
  Millis retry_after_{0};  // the longest
};

}  // namespace millrace::producer
