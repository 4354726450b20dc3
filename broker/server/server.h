// The one loop around the core: sockets → core → journal → sends.
// Shape:   each round reads what the sockets hold, handles as much of it as its budget of work allows,
//          peers in turn (turns.h), lets the core decide, appends its records to the
//          journal as one chunk, and sends what the core said once that chunk is committed. The
//          journal is busy with the chunks before meanwhile: that, and no timer, makes batches.
// Limits:  kBacklogBytes not yet committed: then producers are left unread (TCP holds them), while
//          completions are still taken
// Errors:  open() names what could not be opened; run() returns 74 when the journal fails
// Owns:    the core, the journal, the sockets, the payloads
// Threads: one, the core thread. The journal has its own; libzmq its own; snapshots() and
//          mailbox() may be asked from the HTTP thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "broker/admin/mailbox.h"
#include "broker/admin/snapshots.h"
#include "broker/core/core.h"
#include "broker/records/record_codec.h"
#include "broker/server/admission.h"
#include "broker/server/connection_guard.h"
#include "broker/server/doorkeeper.h"
#include "broker/server/memory_reserve.h"
#include "broker/server/payload_store.h"
#include "broker/server/queue_listing.h"
#include "broker/server/router.h"
#include "broker/server/send_budget.h"
#include "broker/server/turns.h"
#include "common/curve.h"
#include "common/journal/journal.h"
#include "common/repeat_limiter.h"
#include "common/wakeup.h"

namespace millrace::server {

// The broker's own key, and whom it lets in.
struct CurveServer {
  CurvePair own;
  std::string allow_file;
};

inline constexpr Millis kLastWords{1000};  // for an answer to leave before its connection is closed

struct ServerOptions {
  std::string frontend = "tcp://127.0.0.1:5570";
  std::string backend = "tcp://127.0.0.1:5571";
  std::optional<CurveServer> curve;  // nothing: whoever reaches the ports may speak
  core::Settings core;
  journal::JournalOptions journal;
  std::string fsync_name = "always";
  uint64_t max_connections = 1024;         // of both ports together
  uint64_t descriptors = 4096;             // that this process may have open
  uint64_t memory = 256 << 20;             // bytes of payloads kept in RAM
  uint64_t send_buffer = 16 << 20;         // bytes that wait for one peer to read
  uint64_t send_buffer_total = 256 << 20;  // for all
  uint64_t disk_reserve = 128 << 20;       // bytes of the journal's disk left free for completions
};

class Server {
 public:
  explicit Server(ServerOptions options);
  ~Server();

  // Replays the journal, then listens. `snapshots` are published from here on. False: a byte could be
  // read from stop_fd meanwhile, and nothing has been changed on the disk.
  Result<bool> open(int stop_fd);
  // Until stop_fd (a signalfd) has a signal, then a clean stop; but SIGHUP only has the allow-list read.
  Result<void> run(int stop_fd);

  admin::Snapshots& snapshots() { return snapshots_; }
  admin::Mailbox& mailbox() { return mailbox_; }

 private:
  struct Held {  // a message that waits for its commit
    uint64_t ticket = 0;
    core::Route route;
    SessionId session;
    std::string frame;
  };
  struct HeldAnswer {  // to a person, likewise
    uint64_t ticket = 0;
    uint64_t letter = 0;
    admin::Answer answer;
  };
  using Owner = std::shared_ptr<const void>;

  Result<bool> open_journal(int stop_fd);
  Result<void> open_routers();
  Result<void> open_door();
  void publish_recovering();
  void write_snapshot();
  Result<void> round();
  void take_committed();
  Result<void> take_read();
  struct Frame {
    Owner owner;
    std::string_view bytes;
    bool malformed = false;
    int descriptor = -1;  // of a connection that has no session yet
    core::KeyId key;
  };
  void read(core::Port port);
  void drain(core::Port port);
  bool handle(core::Route route, const Frame& frame);
  void receive(core::Route route, const protocol::Envelope<protocol::FromClient>& envelope,
               core::KeyId key);
  void expel_overrunning(core::Route route, SessionId session);
  void expel_slow_readers();
  void discard_held(core::Route route);
  void hold(const core::Send& send, std::string frame);
  bool admits(core::Route route, Router::Received& received);
  core::KeyId key_of(Router::Received& received);
  bool is_connected(core::Route route) const;
  void note_session(core::Route route, int descriptor, SessionId session);
  void take_changed_keys();
  void perform_operations();
  void work_on_operations();
  void hold_answer(uint64_t letter, admin::Answer answer);
  void release_answers();
  void absorb(Owner frame_owner);  // the core's output: records into the chunk, messages encoded
  void queue_send(const core::Send& send);
  void encode_grant(const core::Send& send, const protocol::LeaseGrant& grant);
  void deliver(core::Route route, SessionId session, std::string frame);
  void deliver(Held& held);
  void commit_chunk();
  void begin_segment_if_full();
  void carry_stragglers();
  void update_limits();
  // Below the reserve jobs are rejected until so much is free again.
  uint64_t free_to_resume() const { return options_.disk_reserve / 4 * 5; }
  void update_memory_reserve();
  void publish_if_wanted();
  admin::Status status() const;  // without the queues
  bool has_work() const;  // of a pending operation, or for a status
  bool is_backlogged() const;
  static constexpr int kNoStop = -1;
  bool poll(int stop_fd, Mono until = Mono::max());  // true when it is time to stop
  bool takes_stop(int stop_fd);
  Result<void> answer_while_draining();
  Result<void> stop();
  Turns<Frame>& turns(core::Port port) {
    return port == core::Port::frontend ? frontend_turns_ : backend_turns_;
  }
  Router& router(core::Port port) { return port == core::Port::frontend ? *frontend_ : *backend_; }

  ServerOptions options_;
  Mono started_ = Mono::clock::now();
  Wakeup poke_;
  admin::Snapshots snapshots_;
  QueueListing queue_listing_;
  admin::Mailbox mailbox_;
  core::Core core_;
  core::Output out_;
  PayloadStore payloads_;
  std::unique_ptr<journal::Journal> journal_;
  zmq::context_t context_{1};
  std::unique_ptr<Doorkeeper> door_;        // outlives the routers, which ask it
  std::unique_ptr<ConnectionGuard> guard_;  // likewise
  Admission admission_;
  uint64_t keys_generation_ = 0;
  struct Connection {
    core::Route route;
    int descriptor = -1;
  };
  std::unordered_map<uint64_t, Connection> connections_;  // that have opened a session
  SendBudget send_budget_;
  std::optional<Router> frontend_, backend_;
  Turns<Frame> frontend_turns_, backend_turns_;

  Now now_ = Now::read();
  records::Chunk chunk_;
  bool opens_segment_ = true;       // the chunk is the first of a segment
  uint64_t segment_opened_by_ = 0;  // its ticket
  uint64_t appended_ = 0;           // tickets
  uint64_t committed_ = 0;
  std::deque<std::pair<uint64_t, size_t>> uncommitted_;  // ticket, bytes
  size_t uncommitted_bytes_ = 0;
  size_t segment_uncommitted_bytes_ = 0;  // of the segment that was begun last
  journal::Place tail_;                   // of the last commit
  std::deque<Held> held_;
  std::vector<Held> round_;  // this round's, until the chunk has its ticket
  std::deque<HeldAnswer> held_answers_;
  std::map<uint64_t, uint64_t> pending_letters_;  // by the number of the core's operation
  bool disk_full_ = false;
  MemoryReserve memory_reserve_;
  bool memory_short_ = false;
  Mono memory_checked_{};
  bool more_to_read_ = false;  // a socket's share of the last round was used up
  RepeatLimiter foreign_frames_{Millis(1000)};
  RepeatLimiter slow_readers_{Millis(1000)}, overruns_{Millis(1000)}, shortages_{Millis(1000)};
};

}  // namespace millrace::server
