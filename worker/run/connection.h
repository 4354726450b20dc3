// A executor's line to one of its brokers: link, socket and session joined. What the session says
// is sent, and its jobs go to the pool, which the executor's brokers share.
// Shape:   advance(), receive(), the session's calls → frames on the wire, jobs in the pool
// Limits:  kFramesPerTurn frames are taken at a time, so that each broker and the pool has its turn
// Errors:  advance(): an endpoint that can't be one. That nobody answers is none; refused() says so
//          where a broker will not have this worker.
// Owns:    socket and session; context, options and pool must outlive it
// Threads: one, the executor's
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/repeat_limiter.h"
#include "common/net/dealer.h"
#include "common/net/link.h"
#include "common/net/resolver.h"
#include "worker/pool/pool.h"
#include "worker/run/run_options.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

class Connection {
 public:
  // To the broker of options.brokers at `source`.
  Connection(const RunOptions& options, Source source, zmq::context_t& context, Pool& pool);

  // What link and session have to do now.
  Result<void> advance(Mono now);
  void receive();
  // When the broker counts this worker as lost, unless it hears of it before.
  Mono gone_at(Mono now) const { return link_.gone_at(now); }
  // The process stood still for longer than the broker waits: a new session tells what is still
  // ours, and what has not started goes back.
  Result<void> begin_anew(Mono now);
  // When advance() has something to do.
  Mono wake_at() const;
  // Whatever advance() and receive() wait for.
  void add_to(std::vector<zmq::pollitem_t>* items);

  void completed(std::vector<Finished> ends);
  void set_threads(uint64_t threads);
  void set_limit(uint64_t jobs);
  uint64_t take_peak() { return session_.take_peak(); }
  void drain();
  // What waits in the pool.
  void give_back_waiting();
  void release_failures() { session_.release_failures(); }
  void give_up();
  void say_bye();

  const WorkerSession& session() const { return session_; }
  std::string broker() const { return broker_.uri(); }
  bool ever_connected() const { return ever_connected_; }
  // Why the broker will not have this worker; nothing once it has let it in.
  const std::optional<std::string>& refused() const { return refused_; }
  // Why the broker's name has no address, at the last attempt.
  const std::optional<std::string>& unresolved() const { return unresolved_; }

 private:
  static constexpr int kFramesPerTurn = 256;

  Result<void> open(Mono now);
  void close();
  void on_connection_rejected();
  void on_frame(std::shared_ptr<zmq::message_t> frame, Mono now);
  void on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now);
  void on_error(const protocol::ErrorReply& error, Mono now);
  void give_back(const std::vector<protocol::Lease>& unstarted);
  void apply(Output out);
  void send(std::string frame);

  const Endpoint broker_;
  const std::optional<CurveClient> keys_;
  const Source source_;
  zmq::context_t& context_;
  Pool& pool_;
  Link link_;
  Resolver resolver_;
  bool is_opening_ = false;  // the link waits for the broker's address
  WorkerSession session_;
  std::optional<Dealer> dealer_;
  bool ever_connected_ = false;
  std::optional<std::string> refused_, unresolved_;
  RepeatLimiter bad_frames_{Millis(10'000)}, refusals_{Millis(10'000)}, errors_{Millis(10'000)},
      above_credit_{Millis(10'000)};
};

}  // namespace millrace::worker
