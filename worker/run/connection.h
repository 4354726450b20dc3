// An executor's connection to one of its brokers, and the session on it: sends the frames of the
// session, and hands its jobs to the pool, which the executor's connections share.
// Shape:   advance(), receive(), the session's calls → frames on the wire, jobs in the pool
// Errors:  advance(): those of ClientConnection
// Owns:    connection and session; context, options and pool must outlive it
// Threads: one, the executor's
#pragma once

#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/repeat_limiter.h"
#include "common/net/client_connection.h"
#include "worker/pool/pool.h"
#include "worker/run/run_options.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

class Connection {
 public:
  // To the broker of options.brokers at `source`.
  Connection(const RunOptions& options, Source source, zmq::context_t& context, Pool& pool);

  // What connection and session have to do now.
  Result<void> advance(Mono now);
  // With the items of the last add_to().
  void receive(const std::vector<zmq::pollitem_t>& items, Mono now);
  // When the broker counts this worker as lost, unless it receives something before.
  Mono gone_at(Mono now) const { return connection_.gone_at(now); }
  // The process was suspended for longer than the broker waits: a new session claims what is still
  // held, and what has not started is returned.
  Result<void> reopen(Mono now);
  // When advance() has something to do.
  Mono wake_at() const { return std::min(connection_.wake_at(), session_.wake_at()); }
  // Whatever advance() and receive() wait for.
  void add_to(std::vector<zmq::pollitem_t>* items) { connection_.add_to(items); }

  void completed(std::vector<Finished> ends);
  void set_threads(uint64_t threads);
  void set_limit(uint64_t jobs);
  uint64_t take_peak() { return session_.take_peak(); }
  void drain();
  // What waits in the pool.
  void give_back_waiting();
  void release_failures() { session_.release_failures(); }
  void give_up();
  void say_bye() { connection_.say_bye(); }

  // How often there was no memory for a message, to receive or to send it.
  uint64_t memory_shortages() const { return memory_shortages_ + session_.memory_shortages(); }

  const WorkerSession& session() const { return session_; }
  std::string broker() const { return connection_.broker().uri(); }
  const ClientConnection& connection() const { return connection_; }

 private:
  void on_message(const protocol::FromBroker& message, const FramePtr& frame, Mono now);
  void on_error(const protocol::ErrorReply& error, Mono now);
  void on_no_memory(Mono now);
  void give_back(const std::vector<protocol::Lease>& unstarted);
  void apply(Output out);

  const Source source_;
  Pool& pool_;
  ClientConnection connection_;
  WorkerSession session_;
  RepeatLimiter errors_{Millis(10'000)}, above_credit_{Millis(10'000)}, no_memory_{Millis(10'000)};
  uint64_t memory_shortages_ = 0;
};

}  // namespace millrace::worker
