// The ends of jobs on their way to the broker, kept until it says that they are on disk.
// Shape:   add() → open parcel of each kind (DONE, FAIL, RELEASE) → flush() → numbered batch →
//          confirm()
//          1. Batches are numbered as they are sent, from 1, over all kinds and sessions.
//          2. Below kEager unanswered batches whatever is there goes at once; above, parcels fill
//             until an answer comes. So batches grow while the broker is busy, and no timer waits.
//          3. resend() repeats what is unanswered under its old numbers.
//          4. Of what there is no memory for the jobs are released, uncharged: their results go first.
// Limits:  a parcel is closed at kTargetJobs jobs or kTargetFrame bytes; one larger result travels
//          alone. So a frame stays below max_job_size + 1 MiB.
// Threads: one thread
#pragma once

#include <array>
#include <deque>
#include <string>
#include <vector>

#include "common/protocol/messages.h"

namespace millrace::worker {

class Outbox {
 public:
  static constexpr size_t kEager = 4;

  void done(protocol::Lease lease, bool has_result, std::string result);
  void failed(protocol::Lease lease, protocol::FailKind kind, std::string error);
  void released(protocol::Lease lease);

  // Frames that may go now. The first form sends again, after a WELCOME, all that is unanswered.
  void resend(SessionId session, std::vector<std::string>* frames);
  void flush(SessionId session, std::vector<std::string>* frames);

  // The leases of a batch; none if it was answered before.
  std::vector<protocol::Lease> confirm(uint64_t batch);
  // Takes leases out of everything that would be sent (again).
  void drop(std::vector<protocol::Lease> leases);

  // How often there was no memory to send something: its jobs were released instead.
  uint64_t shortages() const { return shortages_; }

  std::vector<protocol::Lease> unsent() const;
  size_t unanswered() const { return unanswered_.size(); }
  bool empty() const { return unanswered_.empty() && !has_unsent(); }

 private:
  enum Kind { kDone, kFail, kRelease, kKinds };
  struct Item {
    protocol::Lease lease;
    protocol::FailKind fail_kind = protocol::FailKind::retryable;
    bool has_result = false;
    std::string text;
  };
  struct Parcel {
    Kind kind = kDone;
    uint64_t batch = 0;
    size_t bytes = 0;
    std::vector<Item> items;
  };

  void add(Kind kind, Item item);
  void send(Parcel parcel, SessionId session, std::vector<std::string>* frames);
  bool has_unsent() const;
  std::string encode_or_release(Parcel* parcel, SessionId session);
  static std::string encode_parcel(const Parcel& parcel, SessionId session);

  std::array<Parcel, kKinds> open_;
  std::deque<Parcel> full_;
  std::deque<Parcel> unanswered_;
  uint64_t last_batch_ = 0;
  uint64_t shortages_ = 0;
};

}  // namespace millrace::worker
