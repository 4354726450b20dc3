// Answers to QUERY and CANCEL, a slice at a time.
// Shape:   ask() → a slice at once when it is the session's first question; advance(), once a round:
//          one slice for each session that has room
// Limits:  protocol::kMaxPendingQueries and kMaxPendingRanges of a session, kMaxPendingRangesOfAll;
//          kMaxLongQuestions are answered at a time; beyond them ERROR
// Threads: one
#pragma once

#include <deque>

#include "broker/core/outcomes/operations.h"
#include "broker/core/outcomes/outcomes.h"

namespace millrace::core {

class Answers {
 public:
  Answers(Context& context, Sessions& sessions, Outcomes& outcomes, Operations& operations)
      : context_(context),
        state_(context.state),
        sessions_(sessions),
        outcomes_(outcomes),
        operations_(operations) {}

  void on(Session& session, const protocol::Query& message, Output& out);
  void on(Session& session, const protocol::Cancel& message, Output& out);
  void advance(Output& out);
  bool has_more() const;          // that can be answered now
  void forget(Session& session);  // a session that was closed
  Held held() const;

 private:
  struct Slice;

  void ask(Session& session, const std::vector<JobRange>& jobs, bool cancels, Output& out);
  bool can_answer(const Session& session) const;
  void answer_slice(Session& session, Output& out);
  void cancel_some(Question& question, Slice& slice, Output& out);
  void tell_states(Session& session, Question& question, Slice& slice, Output& out);
  bool tell_outcomes(Question& question, Slice& slice, protocol::Outcome& outcomes, Output& out);
  void forget_first(Session& session);

  Context& context_;
  State& state_;
  Sessions& sessions_;
  Outcomes& outcomes_;
  Operations& operations_;
  std::deque<SessionId> answering_;  // sessions with questions, the next to be answered first
  size_t pending_ranges_ = 0;        // of all questions
  size_t long_questions_ = 0;
};

}  // namespace millrace::core
