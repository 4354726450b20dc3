// The broker's process around the loop (loop.h): its sockets and connections, its data directory,
// the HTTP side's requests, and the log.
// Shape:   open() → run(): wait for something to do, a round, again → stop
// Limits:  those of LoopOptions, SendBudget and ConnectionLimits
// Errors:  open() names what could not be opened; run() returns 74 when the journal fails
// Owns:    the loop, the journal, the sockets
// Threads: one, the core thread. The journal has its own; libzmq its own; publisher() and
//          admin_queue() may be asked from the HTTP thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "broker/admin/admin_queue.h"
#include "broker/admin/status_publisher.h"
#include "broker/core/core.h"
#include "broker/listing/queue_listing.h"
#include "broker/server/loop.h"
#include "broker/server/loop_log.h"
#include "broker/server/memory_watch.h"
#include "broker/server/operations.h"
#include "broker/transport/admission.h"
#include "broker/transport/connection_guard.h"
#include "broker/transport/router.h"
#include "broker/transport/send_budget.h"
#include "broker/transport/zap_authenticator.h"
#include "common/base/repeat_limiter.h"
#include "common/journal/journal.h"
#include "common/net/curve.h"
#include "common/os/wakeup.h"

namespace millrace::server {

// The broker's own key, and whom it lets in.
struct CurveServer {
  CurvePair own;
  std::string allow_file;
};

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
  uint64_t for_completions = 40 << 20;     // of them, not for relocation
};

class Server final : private Transport {
 public:
  explicit Server(ServerOptions options);
  ~Server() override;

  // Replays the journal, then listens. `publisher` are published from here on. False: a byte could
  // be read from stop_fd meanwhile, and nothing has been changed on the disk.
  Result<bool> open(int stop_fd);
  // Until stop_fd (a signalfd) has a signal, then a clean stop; but SIGHUP only has the allow-list
  // read.
  Result<void> run(int stop_fd);

  admin::StatusPublisher& publisher() { return publisher_; }
  admin::AdminQueue& admin_queue() { return admin_queue_; }

 private:
  Result<bool> open_journal(int stop_fd);
  Result<void> open_routers();
  Result<void> start_authenticator();
  void publish_recovering();
  void write_snapshot();
  Result<void> round();

  // The loop's transport.
  void begin_round() override;
  bool receive(core::Port port) override;
  bool send(core::Route route, std::string frame) override;
  void disconnect(core::Route route, Millis delay) override { guard_->close(route, delay); }
  void hold(core::Route route, size_t bytes) override { router(route.port).hold(route.id, bytes); }
  void release(core::Route route, size_t bytes) override {
    router(route.port).release(route.id, bytes);
  }
  void disconnect_slow_readers() override;
  bool has_room(core::Route route) const override;
  bool is_connected(core::Route route) const override;
  bool is_connected(core::Route route, int descriptor) const override;
  void note_session(core::Route route, int descriptor, SessionId session) override;

  void drop_largest_readers();
  void on_slow_reader(core::Route route, const Router::Dropped& dropped);
  void log_dropped(core::Route route, const Router::Dropped& dropped, uint64_t held_back) const;
  bool admits(core::Route route, Router::Received& received);
  core::KeyId key_of(Router::Received& received);
  void take_changed_keys();
  void take_requests();
  Loop::Reply perform(const admin::AdminRequest& request, Now now, core::Output& out);
  Loop::Reply finish(const core::BulkOperation& operation);
  void update_memory_watch();
  void publish_if_wanted();
  admin::Status status() const;  // without the queues
  void advance_listing();
  void answer_payloads();
  bool answer_payload(uint64_t request, JobId job);
  bool has_work() const {
    return queue_listing_.is_running() || !listings_.empty() || loop_.has_work();
  }
  static constexpr int kNoStop = -1;
  bool poll(int stop_fd, Mono until = Mono::max());  // true when it is time to stop
  Millis poll_timeout(Mono until) const;
  bool takes_stop(int stop_fd);
  Result<void> answer_while_draining();
  Result<void> stop();
  Router& router(core::Port port) { return port == core::Port::frontend ? *frontend_ : *backend_; }
  const Router& router(core::Port port) const {
    return port == core::Port::frontend ? *frontend_ : *backend_;
  }

  ServerOptions options_;
  Mono started_ = Mono::clock::now();
  Wakeup wake_;
  admin::StatusPublisher publisher_;
  listing::QueueListing queue_listing_;
  admin::AdminQueue admin_queue_;
  LoopLog log_;
  CoreCalls core_calls_;
  Loop loop_;
  std::unique_ptr<journal::Journal> journal_;
  zmq::context_t context_{1};
  std::unique_ptr<ZapAuthenticator> door_;  // outlives the routers, which ask it
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

  std::map<uint64_t, uint64_t> pending_requests_;  // by the number of the core's operation
  struct PendingListing {
    uint64_t request = 0;
    Listing listing;
  };
  std::deque<PendingListing> listings_;  // no more than there are threads that ask, and one overdue
  std::vector<std::pair<uint64_t, JobId>> wanted_payloads_;  // by request; likewise
  MemoryWatch memory_watch_;
  bool memory_short_ = false;
  Mono memory_checked_{};
  RepeatLimiter slow_readers_{Millis(1000)};
};

}  // namespace millrace::server
