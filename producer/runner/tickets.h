// Which submission of a session belongs to which token, and until when its maker waits: turns the
// session's ranges into one event for each token.
// Shape:   add() and look_up(), then the Listener's calls and expire() make events, in order
//          1. A token gets what producer/runner/submission.h says, once.
//          2. After a deadline the session may still hear of it; its maker does not.
// Units:   monotonic time, passed in
// Owns:    the events until take_events()
// Threads: one thread
#pragma once

#include <tsl/robin_map.h>

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "producer/runner/submission.h"
#include "producer/session/listener.h"

namespace millrace::producer {

class Tickets : public Listener {
 public:
  static constexpr Millis kBucket{10};  // how much later than its deadline a ticket may expire

  void add(Seq seq, const Submission& submission);
  // The job has to be asked for: see take_questions().
  void look_up(const LookUp& look_up);
  void tell(Token token, Answer answer) { events_.emplace_back(token, std::move(answer)); }

  void expire(Mono now);
  // All that still waits: unknown, or expired.
  void abandon();
  // Those of these tokens that have no maker any more: there are no events for them. Looks at every
  // ticket, so give many tokens at once.
  void forget(const std::set<Token>& tokens);
  Mono wake_at() const;

  std::vector<Event> take_events() { return std::exchange(events_, {}); }
  // Jobs to inquire after, for look-ups that are new or wait for what follows a state.
  std::vector<JobId> take_questions() { return std::exchange(questions_, {}); }

  // Submissions that the session has not answered, and their payloads.
  uint64_t open_jobs() const { return open_jobs_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t waiting() const { return waiting_; }

  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void ended(const Ended& event) override;
  void spooled(SeqRange seqs) override;
  bool collects(protocol::JobRange) override { return taken_; }
  void found(const protocol::Outcome::Entry& entry) override;
  void told(protocol::JobRange jobs, protocol::JobState state) override;

 private:
  struct Ticket {
    Token token;
    bool keyed = false, reports = false;
    bool answered = false;  // by the broker, or by the spool
    bool waits = true;      // its maker does
    uint32_t bytes = 0;
    Mono deadline = Mono::max();  // of what comes next
    Mono end_by = Mono::max();
  };
  using Open = tsl::robin_map<Seq, Ticket>;
  struct Question {
    Token token;
    Mono deadline = Mono::max();
    bool asked_again = false;
  };
  using Questions = std::multimap<JobId, Question>;

  void schedule(Seq seq, Ticket& ticket, Mono deadline);
  void unschedule(Ticket& ticket);
  void settle(Ticket& ticket);
  void give_up(Open::iterator at);
  void wait_for_end(Open::iterator at);
  void ask(JobId job);
  Questions::iterator answer(Questions::iterator question, JobView view);

  std::vector<Event> events_;
  Open open_;
  // In buckets of kBucket, each when its last deadline is over. Tickets that were answered stay in
  // theirs: most are, long before, and to look there then is cheaper than to take each out.
  std::map<Mono, std::vector<Seq>> deadlines_;
  size_t waiting_ = 0;
  Questions look_ups_;
  std::vector<JobId> questions_;  // to be taken
  std::set<JobId> asked_;         // taken too, and not told
  uint64_t open_jobs_ = 0;
  uint64_t open_bytes_ = 0;
  bool taken_ = false;  // by someone, the last that ended
};

}  // namespace millrace::producer
