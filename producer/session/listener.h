// What a producer session tells its owner, in ranges: one call for many submissions.
// Shape:   for each sequence: sent once, then confirmed or rejected once, or nothing (unknown);
//          for a confirmed one that asked for a report: ended once
// Owns:    nothing; views are valid during the call only
// Threads: called from the thread that drives the session
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/ids.h"
#include "common/protocol/messages.h"

namespace millrace::producer {

struct SeqRange {
  Seq first;
  uint64_t count = 0;

  Seq end() const { return {first.value + count}; }
  bool operator==(const SeqRange&) const = default;
};

struct Sent {
  SeqRange seqs;
  std::string_view queue;
  bool keyed = false;  // with an idempotency key: its job may be another sequence's too
};

// Sequence first + i is job first_job + i.
struct Confirmed {
  SeqRange seqs;
  BrokerId broker;
  JobId first_job;
  bool known = false;
  std::string_view durability;
  bool spooled = false;  // and spooled() was told of them before
};

struct Rejected {
  SeqRange seqs;
  std::string_view reason;
  Millis retry_after{0};  // 0: never
  std::string_view message;
  bool spooled = false;
};

// Job numbers are each broker's own.
struct JobsAt {
  BrokerId broker;
  protocol::JobRange jobs;
};

struct Ended {
  SeqRange seqs;
  BrokerId broker;
  JobId first_job;
  // done or dead; or unknown: the broker no longer knows the job, it is lost
  protocol::JobState state = protocol::JobState::unknown;
  uint64_t attempts = 0;  // 0: not known, the broker only remembered the state
  bool has_result = false;
  std::string_view result;
  std::string_view error;
};

class Listener {
 public:
  virtual ~Listener() = default;

  // The range leaves for the first time as soon as this returns.
  virtual void sent(const Sent&) {}
  virtual void confirmed(const Confirmed&) {}
  virtual void rejected(const Rejected&) {}
  // Rejected for now; the session holds back and tries the same sequences again by itself.
  virtual void postponed(const Rejected&) {}
  virtual void ended(const Ended&) {}
  // On this machine's disk, and forwarded when the broker is back: confirmed() or rejected() follow
  // when that has answered.
  virtual void spooled(SeqRange) {}
  // Asked right after ended() of jobs with a result: whether someone has it now, so that the broker
  // may let it go.
  virtual bool collects(protocol::JobRange) { return true; }
  // Any OUTCOME. After an inquire() what the broker keeps of a job's end comes between told() of
  // that job and any later one.
  virtual void found(const protocol::Outcome::Entry&) {}
  // An answer to ProducerSession::inquire().
  virtual void told(protocol::JobRange, protocol::JobState) {}
  // The broker contradicts itself: a second job for a sequence, one job for two sequences of which
  // one has no key, or another end for a job.
  virtual void contradicted(SeqRange, JobId) {}
};

}  // namespace millrace::producer
