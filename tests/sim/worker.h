// A worker's place: one process after the other, each with the real session and link, a pool of
// threads that only count time, and a socket of the simulated network.
// Shape:   begin() → serving → draining → gone;  kill() from anywhere
// Owns:    the process's life: everything that a crash takes away
// Threads: one
#pragma once

#include <memory>
#include <string>

#include "tests/sim/stage.h"
#include "worker/session/worker_session.h"

namespace millrace::sim {

class Worker final : public Process {
 public:
  Worker(Stage& stage, size_t number);
  ~Worker() override;

  void begin();
  void kill(bool power_lost);
  void drain();
  // Calls it when the process ended by itself.
  void on_exit(std::function<void()> exited) { exited_ = std::move(exited); }

  bool up() const { return life_ != nullptr; }
  bool idle() const;  // holds nothing, owes nothing
  size_t path() const { return path_; }
  const std::string& name() const { return name_; }
  void touch();

 private:
  struct Life;

  void turn() override;
  void advance_link(Now at);
  void receive(Now at);
  void take(const Bytes& frame, Now at);
  void collect();
  void apply(worker::Output out);
  void send(std::string frame);
  void start_waiting();
  void forget(const std::vector<protocol::Lease>& leases);
  std::vector<protocol::Lease> take(const std::vector<protocol::Lease>& leases);

  // What it says and hears, for the witness; planted faults change it here.
  bool note_sent(std::string* frame);
  bool note_received(const protocol::FromBroker& message);

  const size_t number_;
  const size_t path_;
  Random random_;
  uint64_t lives_ = 0;
  std::string name_;
  std::unique_ptr<Life> life_;
  std::function<void()> exited_;
};

}  // namespace millrace::sim
