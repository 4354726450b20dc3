// A worker's loop: it joins link, session, pool and socket, and lets a signal drain them. A process
// has one for the queues that share a pool, and one for each queue with threads of its own.
// Shape:   serving ──signal──▶ draining ──time is up──▶ leaving ──▶ end
//          A second signal ends it at once. Heartbeats come from this loop, so a stuck worker is
//          seen as one. A pool with too many stuck threads drains it too.
// Limits:  kFramesPerTurn frames are taken before the pool's ends have their turn
// Errors:  unavailable: no broker within --connect-timeout, or one that refuses the connection, or
//          none to confirm the last ends
// Owns:    everything between its make and its end; inbox and context must outlive it
// Threads: one: the protocol thread; those of the pool are its own. status() is for any
#pragma once

#include <memory>
#include <optional>
#include <vector>
#include <zmq.hpp>

#include "common/dealer.h"
#include "common/link.h"
#include "common/repeat_limiter.h"
#include "common/wakeup.h"
#include "worker/lane_status.h"
#include "worker/pool/pool.h"
#include "worker/run_options.h"
#include "worker/session/worker_session.h"
#include "worker/signal_inbox.h"

namespace millrace::worker {

class Runner {
 public:
  Runner(const RunOptions& options, std::vector<QueueHandler> handlers, SignalInbox& inbox,
         zmq::context_t& context);

  Result<ExitCode> run();
  // After run(): whether handlers went on that can't be stopped. Then the process has to end
  // without the destructor.
  bool has_runaways() const { return has_runaways_; }

  LaneStatus status() const { return board_.read(pool_->stats()); }

 private:
  enum class Phase { serving, draining, leaving };
  static constexpr int kFramesPerTurn = 256;

  Result<ExitCode> loop();
  Result<void> advance_link(Mono now);
  Result<void> open();
  void close();
  void wait(Mono now);
  Result<void> heed_refusal();
  Mono wake_at() const;

  void receive();
  void on_frame(std::shared_ptr<zmq::message_t> frame, Mono now);
  void on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now);
  void collect();
  void tend_pool(Mono now);
  void apply(Output out);
  void send(std::string frame);

  void on_signal(int signal, Mono now);
  void on_worn_out(Mono now);
  void start_drain(Mono now);
  void stop_running(Mono now);
  // Draining goes on, or how it ended.
  std::optional<ExitCode> drain_result(Mono now);
  void say_bye();

  const RunOptions& options_;
  std::vector<QueueHandler> handlers_;
  SignalInbox& inbox_;
  zmq::context_t& context_;
  Wakeup wakeup_;
  Link link_;
  StatusBoard board_;
  std::unique_ptr<Pool> pool_;
  WorkerSession session_;
  std::optional<Dealer> dealer_;

  Phase phase_ = Phase::serving;
  Mono deadline_ = Mono::max();  // of the phase
  std::optional<ExitCode> stopped_;
  bool ever_connected_ = false;
  bool worn_out_ = false;
  bool has_runaways_ = false;
  RepeatLimiter bad_frames_{Millis(10'000)}, refusals_{Millis(10'000)};
};

}  // namespace millrace::worker
