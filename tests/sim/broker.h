// The broker's process: the real loop with its core and payloads, over a simulated network and
// disk, in simulated time.
// Shape:   start() → recovery → serving;  kill(), stop(), an I/O error → down; whoever killed it
//          starts it again. Planted faults are in what surrounds the loop: faulty_journal.h, and
//          broker_shell.cpp for the calls into the core
// Owns:    its life: everything that a crash takes away
// Threads: one
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "broker/server/loop.h"
#include "tests/sim/sim_journal.h"
#include "tests/sim/stage.h"

namespace millrace::sim {

class Broker final : public Process,
                     private server::Transport,
                     private server::LoopObserver,
                     private server::CoreCalls {
 public:
  explicit Broker(Stage& stage);
  ~Broker() override;

  void start();
  void kill(bool power_lost);
  void stop();
  bool up() const { return life_ != nullptr; }
  bool serving() const;
  // Calls it when the process ended by itself.
  void on_exit(std::function<void()> exited) { exited_ = std::move(exited); }

  // What people ask for over HTTP; nothing while the broker is down.
  using Operation = std::function<void(core::Core&, Now, core::Output&)>;
  void ask(Operation operation);

  // Nothing is under way: what is live is durable.
  bool quiet() const;
  uint64_t live_jobs() const;
  void check_live_is_durable() const;
  void check_bounds() const;

 private:
  struct Arrived {
    uint64_t route = 0;
    Bytes bytes;
  };
  struct Life;
  static constexpr uint64_t kDiskReserve = 4 << 20;

  void turn() override;
  server::LoopOptions loop_options() const;
  Result<journal::Recovered> recover();
  void opened();
  void close();
  void fail(const Error& error);

  // The loop's transport.
  void begin_round() override {}
  bool receive(core::Port port) override;
  bool send(core::Route route, std::string frame) override;
  void disconnect(core::Route, Millis) override {}
  void hold(core::Route route, size_t bytes) override;
  void release(core::Route route, size_t bytes) override;
  void disconnect_slow_readers() override {}
  bool has_room(core::Route) const override { return true; }
  bool is_connected(core::Route route) const override;
  bool is_connected(core::Route route, int) const override { return is_connected(route); }
  void note_session(core::Route, int, SessionId) override {}

  // What the loop reports.
  void frame_refused(core::Route route, const protocol::Fault& fault) override;
  void peer_overran(core::Route route, const std::string& peer) override;
  void payload_unreadable(const std::string& cause) override;
  void message_not_encoded() override;
  void disk_full_changed(bool full, const std::string& shortage, uint64_t free) override;

  // broker_shell.cpp: the loop's calls into the core, with planted faults and checks of both sides
  std::optional<std::string> replay(core::Core& core, const records::Record& record,
                                    Now now) override;
  void receive(core::Core& core, Now now, core::Route route, const Envelope& envelope,
               core::KeyId key, core::Output& out) override;
  void tick(core::Core& core, Now now, core::Output& out) override;
  void dispatch(core::Core& core, Now now, core::Output& out) override;
  void advance_operations(core::Core& core, Now now, core::Output& out) override;
  void inspect(core::Output& out) override;

  core::Settings settings_of_core() const;
  void forget_last_batch();
  void after_recovery();
  // Queues as a planted fault takes them to be; restore() undoes it.
  std::vector<records::QueueSet> pretend();
  void restore(const std::vector<records::QueueSet>& real);
  std::vector<SessionId> in_use_by_others(const Envelope& envelope, core::Route route) const;
  void check_taken_over(const std::vector<SessionId>& in_use, Now at) const;
  bool let_in(core::Route& route, Envelope* envelope);
  bool is_written(records::Record* record);
  bool let_out(core::Send* send, std::vector<core::Send>* more);
  void check_rate(const protocol::LeaseGrant& grant);
  uint64_t low_water() const;         // of --max-queued
  uint64_t low_memory_water() const;  // of --max-memory
  void open_marks();
  struct MemoryLevel {
    uint64_t total = 0, own = 0;  // bytes, and those of a producer's jobs
  };
  MemoryLevel memory_level(SessionId session) const;
  void check_memory_mark(MemoryLevel before) const;
  void check_disk_mark(bool full, uint64_t free) const;
  void check_reject(const protocol::Reject& reject);
  std::optional<core::Send> grant_to_another(const core::Send& send,
                                             const protocol::LeaseGrant& grant);
  void forgive_lateness(Now now);
  void check_silence(const std::vector<std::pair<SessionId, Mono>>& before, Now now) const;
  void check_limits() const;
  void check_quotas(const Uuid& producer) const;
  void check_busy() const;

  std::unique_ptr<Life> life_;
  std::function<void()> exited_;
  std::shared_ptr<const std::string> snapshot_;  // the file that the last clean stop left
  Random random_, snapshot_random_;
  uint64_t starts_ = 0;
};

}  // namespace millrace::sim
