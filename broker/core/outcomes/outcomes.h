// How jobs ended, on the way to their producers: a round's reports, and the OUTCOME messages that
// carry them and the answers to QUERY.
// Shape:   report() … → flush(), once a round: one OUTCOME or more for each producer; entries that
//          are alike become one
// Limits:  OUTCOMEs of about protocol::kTargetFrame
// Owns:    copies of the results and errors that it was given, until flush() hands them to the output
// Threads: one
#pragma once

#include <list>
#include <string>
#include <unordered_map>

#include "broker/core/session/sessions.h"

namespace millrace::core {

inline constexpr size_t kOutcomeEntryBytes = 32;  // beside its result or error

class Outcomes {
 public:
  Outcomes(Context& context, Sessions& sessions) : context_(context), sessions_(sessions) {}

  // Notes a job's end for its producer, if that wants to know.
  void report(JobId id, const Job& job, JobState state, std::string_view result,
              std::string_view error);
  void flush(Output& out);

  // Copies what the entry points to.
  static void add(protocol::Outcome& to, protocol::Outcome::Entry entry,
                  std::list<std::string>& texts);
  void send(Session& session, const protocol::Outcome& outcomes, Output& out);
  Held held() const;

 private:
  Context& context_;
  Sessions& sessions_;
  std::unordered_map<ProducerIndex, protocol::Outcome> reports_;
  std::list<std::string> texts_;  // that reports_ point into
};

}  // namespace millrace::core
