// The worker's one loop: it joins link, session, pool and socket, and lets a signal drain them.
// Shape:   serving ──signal──▶ draining ──time is up──▶ leaving ──▶ end
//          A second signal ends it at once. Heartbeats come from this loop, so a stuck worker is
//          seen as one.
// Limits:  kFramesPerTurn frames are taken before the pool's ends have their turn
// Errors:  unavailable: no broker within --connect-timeout, or none to confirm the last ends
// Owns:    everything between its make and its end; Interrupts must be made before
// Threads: one: the protocol thread; those of the pool are its own
#pragma once

#include <memory>
#include <optional>
#include <vector>
#include <zmq.hpp>

#include "common/dealer.h"
#include "common/link.h"
#include "common/repeat_limiter.h"
#include "common/wakeup.h"
#include "worker/interrupts.h"
#include "worker/pool/fixed_pool.h"
#include "worker/run_options.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

class Runner {
 public:
  Runner(const RunOptions& options, std::vector<QueueHandler> handlers, Interrupts& interrupts);

  Result<ExitCode> run();

 private:
  enum class Phase { serving, draining, leaving };
  static constexpr int kFramesPerTurn = 256;

  Result<void> advance_link(Mono now);
  Result<void> open();
  void close();
  void wait(Mono now);
  Mono wake_at() const;

  void receive();
  void on_frame(std::shared_ptr<zmq::message_t> frame, Mono now);
  void on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now);
  void collect();
  void apply(Output out);
  void send(std::string frame);

  void on_signal(int signal, Mono now);
  void start_drain(Mono now);
  void stop_running(Mono now);
  // Draining goes on, or how it ended.
  std::optional<ExitCode> drain_result(Mono now);
  void say_bye();

  const RunOptions& options_;
  std::vector<QueueHandler> handlers_;
  Interrupts& interrupts_;
  zmq::context_t context_{1};
  Wakeup wakeup_;
  StopSignal stop_;
  Link link_;
  WorkerSession session_;
  FixedPool pool_;
  std::optional<Dealer> dealer_;

  Phase phase_ = Phase::serving;
  Mono deadline_ = Mono::max();  // of the phase
  std::optional<ExitCode> stopped_;
  bool ever_connected_ = false;
  RepeatLimiter bad_frames_{Millis(10'000)};
};

// Parses the handlers and runs; what the command `run` does.
Result<ExitCode> run_worker(const RunOptions& options);

}  // namespace millrace::worker
