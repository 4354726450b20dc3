// A producer's side of the protocol, without sockets and clocks: it keeps every submission until
// the broker has answered it, sends batches as the window allows, sends again what is unknown after
// a reconnect, and follows confirmed jobs to their end (docs/PROTOCOL.md, section 4).
// Shape:   submit() and received() in, frames and Listener's calls out
//          1. Every sequence below floor() is answered; none from there on is forgotten.
//          2. Listener::sent() comes before the first frame that holds a sequence is given out.
//          3. After a WELCOME what was unanswered goes out first, in order, then what is new.
//          4. A batch leaves at once while fewer than `eager` SUBMITs are unanswered; otherwise
//             when it is full or one is answered. So batches form because the broker is busy, and
//             an idle one never waits.
// Units:   monotonic time, passed in
// Limits:  Config, and the broker's window: jobs and payload bytes that are sent and unanswered
// Errors:  none; what the broker says wrongly is skipped or given to Listener::contradicted()
// Owns:    the payloads; the listener must outlive it
// Threads: one thread
#pragma once

#include <deque>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common/protocol/codec.h"
#include "producer/session/batch.h"
#include "producer/session/inquiry.h"
#include "producer/session/listener.h"
#include "producer/session/outstanding_jobs.h"

namespace millrace::producer {

// What a REJECT with a retry-after means to the producer.
enum class OnReject {
  retry,   // hold back, then send the same sequences again
  report,  // an answer like any other
};

struct SessionConfig {
  Uuid producer;
  OnReject on_reject = OnReject::retry;
  uint64_t window_jobs = UINT64_MAX;  // the broker's window counts too
  uint64_t max_unsent_jobs = 1 << 18;
  uint64_t max_unsent_bytes = 64 << 20;
  // Jobs that have ended are not remembered: for a producer that runs for ever. What the broker
  // says of them again is not compared with what it had said.
  bool forgetful = false;
  size_t eager = 4;  // SUBMITs that may be unanswered when one leaves that is not full
};

class ProducerSession {
 public:
  static constexpr Millis kAskEach{1000};  // for the end of a job that another has submitted
  using Frames = std::vector<std::string>;

  ProducerSession(SessionConfig config, Listener& listener);

  // False: too much is waiting to be sent; wait for answers.
  bool has_room() const;
  // The queue's name must be valid. Room is not checked.
  Seq submit(std::string_view queue, const protocol::SubmitOptions& options,
             std::string_view payload);
  // Leaves sequences out: those of an earlier run of this producer that need nothing any more. The
  // broker is told that they are answered.
  void skip_to(Seq next);
  // Waits for the end of jobs that an earlier run of this producer has submitted. The broker must
  // be known, and be the one that confirmed them.
  void follow(SeqRange seqs, JobId first_job, protocol::Report report);
  // Results that Listener::collects() left with the broker are not needed there any more.
  void collect(protocol::JobRange jobs) { collected_.push_back(jobs); }
  // No SUBMIT declares a floor above this: its owner may send again from here on, in another life.
  void limit_floor(Seq floor) { floor_limit_ = floor; }
  // Before this sequence a REJECT with a retry-after is always waited out: nobody is there to hear
  // it.
  void retry_before(Seq seq) { retry_before_ = std::max(retry_before_, seq); }
  // What was submitted from this sequence on and has no answer, sent or not, in order.
  using Visit = std::function<void(Seq, std::string_view queue, const protocol::SubmitOptions&,
                                   std::string_view payload)>;
  void each_unanswered(Seq from, const Visit& visit) const;
  // The parts of a range that have no answer, or were not submitted here yet.
  std::vector<SeqRange> without_answer(SeqRange seqs) const;
  // Cancels the jobs whose end is outstanding; the end of each is told, whichever it is.
  void cancel_outstanding();
  // Asks for the states of jobs; Listener::told() hears them.
  void inquire(protocol::JobRange jobs) { inquiry_.ask(jobs); }

  protocol::Hello hello() const { return {config_.producer}; }
  void welcomed(const protocol::Welcome& welcome);
  void received(Mono now, const protocol::FromBroker& message);
  void lost();
  // What is to be sent now, in order; nothing between a loss and the next WELCOME.
  void flush(Mono now, SessionId session, Frames* frames);
  // When flush() will have something because time has passed; Mono::max(): never.
  Mono wake_at() const;
  // The broker has said that it takes nothing for now, and has confirmed nothing since. When the
  // time that it named is over, what waits here is sent again first, and shows whether that is over
  // too.
  bool full(Mono now) const { return rejects_ && (now < full_until_ || unanswered_ > 0); }
  // What is to be sent waits for it.
  bool held(Mono now) const { return now < held_until_; }

  Seq floor() const;
  Seq next_seq() const { return next_seq_; }
  // Submitted and not answered, sent or not.
  uint64_t unanswered() const { return unanswered_; }
  uint64_t unanswered_bytes() const { return unanswered_bytes_; }  // of their payloads
  // Confirmed, with a report to come.
  uint64_t outstanding() const { return outstanding_.pending(); }
  bool inquiring() const { return !inquiry_.done(); }
  bool welcome_heard() const { return welcomed_; }  // on this connection
  bool knows_broker() const { return broker_.value != 0; }
  BrokerId broker() const { return broker_; }
  uint64_t max_job_size() const { return max_job_size_; }

 private:
  // One SUBMIT: its sequences that are not answered yet. A sequence is open in one message at most.
  struct Message {
    std::vector<SeqRange> open;
  };
  struct Postponed {
    Mono due;
    SeqRange seqs;
  };
  struct Outbox {
    SessionId session;
    Frames* frames;
    void put(const protocol::FromClient& message) const {
      frames->push_back(protocol::encode(session, message));
    }
  };
  // A part of one batch that has not been answered.
  struct Part {
    Batch* batch;
    SeqRange seqs;
  };

  Batch& batch_of(Seq seq);
  std::vector<Part> unanswered_parts(SeqRange seqs);
  void settle(const Part& part, Batch::State state);
  void drop_answered();

  void release_due(Mono now);
  void send_again(const Outbox& out);
  void send_new(const Outbox& out);
  void send_jobs(const Outbox& out, const Batch& batch, SeqRange seqs);
  void send_query(const Outbox& out);
  void send_collected(const Outbox& out);
  SeqRange chunk_of(const Batch& batch, SeqRange seqs) const;
  bool window_takes(const Batch& batch, SeqRange seqs) const;
  SeqRange before_too_large(const Batch& batch, SeqRange seqs) const;
  void reject_too_large(Batch& batch, Seq seq);

  void take(const protocol::Confirm& confirm);
  void take(Mono now, const protocol::Reject& reject);
  void take(const protocol::Outcome& outcome);
  void take(Mono now, const protocol::States& states);
  void confirm_each(const Part& part, const protocol::Confirm& confirm,
                    const protocol::Confirm::Range& range);
  void confirm_part(const Part& part, const protocol::Confirm& confirm,
                    const protocol::Confirm::Range& range);
  void ask_again(Mono now, protocol::JobRange jobs);
  void end_by_state(protocol::JobRange jobs, protocol::JobState state,
                    std::set<JobId>* asked_again);
  OutstandingJobs::Visits visits_of(Ended ended);
  void follow_to(BrokerId broker);

  SessionConfig config_;
  Listener& listener_;

  std::deque<Batch> batches_;  // consecutive, from the floor to next_seq_
  Seq next_seq_{1};
  Seq next_send_{1};  // never sent from here on
  Seq floor_limit_{UINT64_MAX};
  Seq retry_before_{0};
  uint64_t unanswered_ = 0, unanswered_bytes_ = 0;
  uint64_t unsent_jobs_ = 0, unsent_bytes_ = 0;

  bool welcomed_ = false;
  BrokerId broker_;
  uint64_t max_job_size_ = protocol::kDefaultMaxJobSize;
  uint64_t window_jobs_ = 1;
  uint64_t window_bytes_ = 1;
  std::deque<Message> messages_;  // SUBMITs of this connection, oldest first
  size_t open_messages_ = 0;
  uint64_t in_flight_jobs_ = 0;
  uint64_t in_flight_bytes_ = 0;
  std::deque<SeqRange> again_;  // to be sent again
  std::vector<Postponed> postponed_;
  Mono held_until_ = Mono::min();
  Mono full_until_ = Mono::min();
  bool rejects_ = false;

  OutstandingJobs outstanding_;
  Inquiry following_;   // outstanding jobs whose end may have been missed
  Inquiry cancelling_;  // outstanding jobs that nobody wants any more
  // Awaited jobs that somebody submitted before under the same idempotency key: nobody tells their
  // end, so it is asked for, from time to time.
  std::set<JobId> shared_;
  struct Later {
    Mono due;
    protocol::JobRange jobs;
  };
  std::deque<Later> ask_later_;                // in the order of dues
  Inquiry inquiry_;                            // the owner's
  std::vector<protocol::JobRange> collected_;  // to be told
};

}  // namespace millrace::producer
