// What goes into a Runner and what comes out of it, as values: a submission or a look-up with a
// token that its maker has chosen, and the events that carry the token back.
// Shape:   a submission: one Answer, then, if it was accepted and asked for a report, one JobView
//          or one Expired; a look-up: one JobView, or one Answer (unknown, away)
// Units:   deadlines on the monotonic clock; Mono::max(): none
// Threads: immutable
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/protocol/messages.h"

namespace millrace::producer {

using Token = Id<struct TokenTag>;

struct Submission {
  Token token;
  std::string queue;  // its name must be valid
  protocol::SubmitOptions options;
  std::string payload;
  Mono answer_by = Mono::max();  // then it is answered as unknown
  Mono end_by = Mono::max();     // then its end is not waited for any more
};

// Whether the spool could take one more.
enum class SpoolRoom { some, none, disk_full };

// How full the spool is, and what it has got rid of.
struct SpoolLevel {
  uint64_t jobs = 0;
  uint64_t bytes = 0;
  uint64_t forwarded = 0;  // and confirmed by a broker
  bool disk_full = false;
};

struct LookUp {
  Token token;
  BrokerId broker;
  JobId job;
  Mono answer_by = Mono::max();
};

struct Answer {
  enum class Kind {
    confirmed,  // on disk
    buffered,   // accepted by a broker that does not sync before it answers
    spooled,    // on this machine's disk, and forwarded when the broker is back; it has no job yet
    rejected,   // not stored, and never will be if there is no retry_after
    away,       // not stored: no broker is connected, and spool_room says what else
    unknown,    // perhaps stored, or stored later
  };
  Kind kind = Kind::unknown;
  BrokerId broker;
  JobId job;
  bool known = false;  // its key was used before
  std::string reason;  // of a rejection: docs/PROTOCOL.md, section 4
  std::string message;
  Millis retry_after{0};
  SpoolRoom spool_room = SpoolRoom::some;  // or there is no spool

  bool has_job() const { return kind == Kind::confirmed || kind == Kind::buffered; }
  bool accepted() const { return has_job() || kind == Kind::spooled; }
};

// A job as the broker tells of it: its end, or, to a look-up, its state now.
struct JobView {
  BrokerId broker;
  JobId job;
  protocol::JobState state = protocol::JobState::unknown;
  uint64_t attempts = 0;  // 0: not told
  bool has_result = false;
  std::string result;
  std::string error;
};

// The job's end did not come in time.
struct Expired {};

struct Event {
  template <typename What>
  Event(Token of, What event) : token(of), what(std::in_place_type<What>, std::move(event)) {}

  Token token;
  std::variant<Answer, JobView, Expired> what;
};

}  // namespace millrace::producer
