// The broker's one loop, in production and in the simulator: messages → core → journal → messages.
// Shape:   each round delivers what has been committed, takes frames from the transport and handles as
//          many of them as its budget allows (round_budget.h), peers in turn (turns.h), lets the core decide,
//          appends its records to the journal as one chunk, and sends what the core said once that
//          chunk is committed. The journal is busy with the chunks before meanwhile: that, and no
//          timer, makes batches.
//          1. A message leaves after everything that was emitted before it is committed, unless it is
//             marked at_once, or is a producer's WELCOME after this start's first commit.
//          2. A segment begins with a Checkpoint, and before it would outgrow segment_bytes.
//          3. A segment is retired when it holds no payload or result that is needed; relocation
//             empties the oldest one when the journal is much larger than what lives in it.
//          4. A HELLO or REGISTER that the core can't decide on yet waits, one of each connection
//             (Sessions::contest()).
// Units:   bytes; work in the core's units (Core::work())
// Limits:  backlog_bytes not yet committed: then the frontend is left unread, while completions are
//          still taken. reserve: below it new jobs are rejected (disk_reserve.h)
// Errors:  round() fails when the journal does
// Owns:    the core, the payloads, and what waits for a commit; transport, observer, calls and journal
//          must outlive it
// Threads: one
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/records/record_codec.h"
#include "broker/server/disk_reserve.h"
#include "broker/server/loop_environment.h"
#include "broker/server/payload_store.h"
#include "broker/server/round_budget.h"
#include "broker/server/turns.h"
#include "common/journal/journal.h"

namespace millrace::server {

inline constexpr Millis kLastWords{1000};  // for an answer to leave before its connection is closed
// HELLOs and REGISTERs that wait for the core's decision, and their bytes before the last one.
inline constexpr size_t kMaxContested = 64;
inline constexpr size_t kMaxContestedBytes = 16 << 20;

struct LoopOptions {
  uint64_t segment_bytes = journal::kSegmentBytes;
  uint64_t segment_slack = 8 << 20;  // a segment ends early by this: the next round may be large
  DiskReserve reserve{128 << 20, 40 << 20};
  uint64_t payload_memory = 256 << 20;
  ReadBackLimits read_back;
  size_t backlog_bytes = 32 << 20;
  size_t relocated_per_round = 256 << 10;
  uint64_t work_per_round = RoundBudget::kWork;  // of each port
  std::function<Mono()> clock =
      &Mono::clock::now;  // to end rounds by; all else goes by round()'s time
  // Frames that were read and wait. An honest producer's are at most its window; a worker's are
  // fewer.
  TurnLimits turns{4 * 16384, 40 << 20, 1 << 18, 128 << 20};
};

class Loop {
 public:
  Loop(const core::Settings& settings, uint64_t seed, const LoopOptions& options,
       Transport& transport, LoopObserver& observer, CoreCalls& calls);
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Recovery, in order: each record, the journal, begin(). It appends the first chunk.
  Result<void> replay(const records::Record& record, journal::Place place, Now now);
  void set_journal(journal::Journal& journal);
  Result<void> begin(Now now, BrokerId new_broker);

  Result<void> round(Now now);
  // Sends what has been committed since; a part of round(), and what is left after the last one.
  void deliver_committed();
  bool has_work() const { return more_to_read_ || has_operation_to_advance(); }  // before wake_at()
  Mono wake_at() const { return core_.wake_at(now_); }
  bool is_backlogged() const { return uncommitted_bytes_ > options_.backlog_bytes; }
  bool is_committed() const { return appended_ == committed_; }
  bool is_idle() const;  // nothing waits, and all is committed

  // For the transport.
  bool is_full(core::Port port) const { return turns(port).is_full(); }
  void push(core::Route route, Frame frame);
  void unreachable(core::Route route);
  void refuse(core::Route route, const protocol::Fault& fault);
  std::vector<SessionId> expel(core::Route route);  // as if it had fallen silent
  void drop_received(core::Route route);
  void drop_held(core::Route route);

  // What people ask for: performed in the next round. The reply, if there is one, is called when
  // what was done is committed.
  using Reply = std::function<void()>;
  using Request = std::function<Reply(core::Core&, Now, core::Output&)>;
  void ask(Request request) { requests_.push_back(std::move(request)); }
  // Of a bulk operation that a request began, once it is done.
  using OperationDone = std::function<Reply(const core::BulkOperation&)>;
  void on_operation_done(OperationDone done) { operation_done_ = std::move(done); }

  core::Core& core() { return core_; }
  const core::Core& core() const { return core_; }
  PayloadStore& payloads() { return payloads_; }
  const PayloadStore& payloads() const { return payloads_; }
  size_t received_bytes() const {
    return frontend_turns_.bytes() + backend_turns_.bytes() + contested_bytes_;
  }
  bool is_disk_full() const { return disk_full_; }

 private:
  using Owner = std::shared_ptr<const void>;
  struct Held {  // a message that waits for its commit
    uint64_t ticket = 0;
    core::Route route;
    SessionId session;
    std::string frame;  // empty: dropped
  };
  struct HeldReply {
    uint64_t ticket = 0;
    Reply reply;
  };
  struct Contested {  // a HELLO or REGISTER that waits for the core's decision
    core::Route route;
    SessionId older, newer;
    Frame frame;
  };
  struct Uncommitted {  // a chunk
    uint64_t ticket = 0;
    size_t bytes = 0;
  };

  // loop.cpp: what comes in
  Result<void> take_read();
  void update_disk_full();
  void drain(core::Port port);
  bool handle(core::Route route, const Frame& frame);
  bool can_wait(core::Route route) const;
  void hold_contested(core::Route route, SessionId session, const Frame& frame);
  void drop_contested(core::Route route);
  void decide_contested();
  void receive(core::Route route, const CoreCalls::Envelope& envelope, core::KeyId key);
  void perform_requests();
  void advance_operation();
  bool has_operation_to_advance() const {
    return core_.operations().pending() > 0 && !is_backlogged();
  }

  // loop_output.cpp: what goes out
  void absorb(const Owner& frame_owner = nullptr);  // what the core said
  void append(const core::OutRecord& out, const Owner& frame_owner);
  void queue_send(const core::Send& send);
  std::optional<std::string> encode(const core::Send& send);
  void encode_grant(const core::Send& send, const protocol::LeaseGrant& grant);
  bool may_leave_at_once(const core::Send& send) const;
  void hold(const core::Send& send, std::string frame);
  void hold(Reply reply);
  void deliver(core::Route route, SessionId session, std::string frame);
  void deliver(Held& held);
  void release_replies();
  void begin_segment_if_full();
  void relocate();
  bool should_relocate() const;
  bool has_much_garbage() const;
  bool has_room_to_relocate() const;
  void close_round();
  void append_chunk();

  Turns<Frame>& turns(core::Port port) {
    return port == core::Port::frontend ? frontend_turns_ : backend_turns_;
  }
  const Turns<Frame>& turns(core::Port port) const {
    return port == core::Port::frontend ? frontend_turns_ : backend_turns_;
  }

  const LoopOptions options_;
  Transport& transport_;
  LoopObserver& observer_;
  CoreCalls& calls_;
  core::Core core_;
  core::Output out_;
  PayloadStore payloads_;
  journal::Journal* journal_ = nullptr;
  Turns<Frame> frontend_turns_, backend_turns_;
  bool more_to_read_ = false;  // a port's share of the last round was used up
  bool frontend_is_read_ = false, backend_is_read_ = false;  // nothing was left in this round
  std::vector<Contested> contested_;
  size_t contested_bytes_ = 0;
  std::vector<Request> requests_;
  OperationDone operation_done_;

  Now now_{};
  records::Chunk chunk_;
  bool opens_segment_ = true;       // the chunk is the first of a segment
  uint64_t segment_opened_by_ = 0;  // its ticket
  uint64_t appended_ = 0;           // tickets
  uint64_t committed_ = 0;
  std::deque<Uncommitted> uncommitted_;
  size_t uncommitted_bytes_ = 0;
  size_t segment_uncommitted_bytes_ = 0;  // of the segment that was begun last
  journal::Place tail_;                   // of the last commit
  size_t checkpoint_bytes_ = 0;           // of the last one
  std::deque<Held> held_;
  std::vector<Held> round_;  // this round's, until the chunk has its ticket
  std::deque<HeldReply> held_replies_;
  bool disk_full_ = false;
};

}  // namespace millrace::server
