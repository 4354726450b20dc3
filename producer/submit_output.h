// What submit prints of its jobs, and the counts for its summary.
// Errors:  cant_create, io: the file of results
// Owns:    the file
// Threads: one thread
#pragma once

#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "common/result.h"
#include "producer/session/listener.h"

namespace millrace::producer {

class SubmitOutput : public Listener {
 public:
  struct Form {
    bool wait = false;
    std::string results;  // a file or -; empty: stdout, if results are wanted
    bool json = false;    // nothing on stdout but the summary
    bool lines = false;   // sequences are line numbers
  };
  static Result<std::unique_ptr<SubmitOutput>> open(Form form);
  ~SubmitOutput() override;

  bool wants_results() const { return form_.wait || !form_.results.empty(); }
  Result<void> flush();

  uint64_t confirmed() const { return confirmed_; }
  uint64_t known() const { return known_; }  // of these: the jobs were there before
  uint64_t rejected() const { return rejected_; }
  // Every rejection was for now, and may not come again after this time; 0 if one was for good.
  Millis retry_after() const { return rejected_for_good_ ? Millis(0) : retry_after_; }
  uint64_t done() const { return done_; }
  uint64_t dead() const { return dead_; }
  uint64_t dropped() const { return dropped_; }
  uint64_t lost() const { return lost_; }
  bool buffered() const { return buffered_; }
  const std::string& first_rejection() const { return first_rejection_; }

  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void postponed(const Rejected& event) override;
  void ended(const Ended& event) override;

 private:
  explicit SubmitOutput(Form form) : form_(std::move(form)) {}
  void answered(SeqRange seqs, std::string ids);

  Form form_;
  FILE* file_ = nullptr;  // of the results, or stdout; null: nothing is printed
  bool owns_file_ = false;
  // Answers that came before that of an earlier sequence: their ids wait here.
  std::map<uint64_t, std::pair<uint64_t, std::string>> early_;  // by first sequence: end, text
  uint64_t next_ = 1;
  std::string pending_;

  uint64_t confirmed_ = 0, known_ = 0, rejected_ = 0, done_ = 0, dead_ = 0, lost_ = 0;
  uint64_t dropped_ = 0;  // cancelled or expired
  bool buffered_ = false;
  bool postponed_told_ = false;
  uint64_t rejections_told_ = 0;
  std::string first_rejection_;
  bool rejected_for_good_ = false;
  Millis retry_after_{0};  // the longest
};

}  // namespace millrace::producer
