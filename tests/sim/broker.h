// The broker's process: the real core, payload store, segment writer and recovery, with the loop of
// broker/server/server.cpp around them, in simulated time.
// Shape:   start() → recovery → serving;  kill(), stop(), an I/O error → down; whoever killed it
//          starts it again. Planted faults of the broker are in its shell: broker_shell.cpp
// Owns:    its life: everything that a crash takes away
// Threads: one
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "broker/core/core.h"
#include "broker/server/payload_store.h"
#include "tests/sim/sim_journal.h"
#include "tests/sim/stage.h"

namespace millrace::sim {

class Broker final : public Process {
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
  struct Held {
    uint64_t ticket = 0;
    core::Route route;
    SessionId session;
    std::string frame;
  };
  struct Frame {
    core::Route route;
    Bytes bytes;
  };
  using Owner = std::shared_ptr<const void>;
  struct Life;

  void turn() override;
  void opened();
  void fail(const Error& error);
  void take_committed();
  void update_limits();
  void begin_segment_if_full();
  void carry_stragglers();
  void drain(core::Port port);
  void handle(const Frame& frame);
  void tick(Now now);
  void absorb(const Owner& frame_owner);
  void queue_send(const core::Send& send);
  void encode_grant(const core::Send& send, const protocol::LeaseGrant& grant);
  void hold(const core::Send& send, std::string frame);
  void deliver(const Held& send);
  void commit_chunk();

  // broker_shell.cpp: what planted faults change, and checks at the core's edge
  core::Settings settings_of_core() const;
  Result<void> replay(const records::Record& record, journal::Place place);
  void forget_last_batch();
  void after_recovery();
  void dispatch(Now at);
  void receive(core::Route route, const protocol::Envelope<protocol::FromClient>& envelope);
  // Queues as a planted fault takes them to be; restore() undoes it.
  std::vector<records::QueueSet> pretend();
  void restore(const std::vector<records::QueueSet>& real);
  bool let_in(core::Route& route, protocol::Envelope<protocol::FromClient>* envelope);
  std::optional<records::Record> before_journal(const records::Record& record);
  void check_rate(const protocol::LeaseGrant& grant);
  void after_grant(const core::Send& send, const protocol::LeaseGrant& part);
  bool let_out(const core::Send& send, protocol::FromBroker* message);
  void forgive_lateness(Now now);
  void check_silence(const std::vector<std::pair<SessionId, Mono>>& before, Now now) const;
  void work(Now at);
  void check_limits() const;
  void check_quotas(const Uuid& producer) const;
  void check_busy() const;

  std::unique_ptr<Life> life_;
  std::function<void()> exited_;
  Random random_;
  uint64_t starts_ = 0;
};

}  // namespace millrace::sim
