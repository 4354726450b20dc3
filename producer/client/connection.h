// A producer's connection to one of its brokers, the session on it, and with a spool its spool
// queue.
// Shape:   submissions and advance(), receive() → frames, and the listener's calls
//          1. A submission goes to the session. While the broker is unreachable, or the spool queue
//             has submissions that the session does not have yet, it goes into the spool queue, so
//             that their order is kept.
//          2. A broker is unreachable once it was not connected for spool_after. Then the session's
//             submissions without an answer go into the spool queue too, under the same sequences.
//          3. What an earlier run has left in the spool queue is not reported to the listener:
//             forwarded() and refused() count it.
// Limits:  kMaxFrame for a message from the broker; of a spool queue kLoadJobs jobs and kLoadBytes
//          bytes at a time are in the session; kMaxAhead, which its owner enforces
// Errors:  those of ClientConnection, the spool queue and the ledger
// Owns:    connection and session; all that Parts names must outlive it
// Threads: one thread
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/repeat_limiter.h"
#include "common/base/units.h"
#include "common/net/client_connection.h"
#include "common/net/curve.h"
#include "producer/client/ledger.h"
#include "producer/session/session.h"
#include "producer/spool/spool.h"

namespace millrace::producer {

inline constexpr int kFrontendPort = 5570;

class Connection : private Listener {
 public:
  static constexpr size_t kMaxFrame = 256 << 20;
  static constexpr uint64_t kLoadJobs = 1 << 14;
  static constexpr uint64_t kLoadBytes = 16 << 20;
  // Maximum for a broker that has not answered any of it yet: the rest goes to others.
  static constexpr uint64_t kMaxAhead = 1 << 14;

  struct Parts {
    Endpoint broker;
    std::optional<CurveClient> keys;
    zmq::context_t* context = nullptr;
    size_t io_thread = 0;
    Ledger* ledger = nullptr;           // or null
    SpoolQueue* spool_queue = nullptr;  // or null
    Millis spool_after{0};
    bool alone = true;  // there is no other broker
    Seq first;          // of this run
  };
  Connection(Parts parts, const SessionConfig& config, Listener& listener, Mono now);

  // ---- submissions. Sequences ascend over all calls.
  void submit(Seq seq, std::string_view queue, const protocol::SubmitOptions& options,
              std::string_view payload);
  // The only broker takes submissions even before it has answered; with several, another one would.
  bool takes() const;
  uint64_t load() const {
    return session_.unanswered() + (spool_queue() ? spool_queue()->unloaded() : 0);
  }
  // Submissions since the last connect, minus those that were answered since.
  uint64_t ahead() const { return ahead_; }

  // ---- a turn, in this order
  // What connection, session and spool queue have to do now.
  Result<void> advance(Mono now);
  // The frames for send(); their entries must be in the ledger first.
  bool gather(Mono now);
  void send(Mono now);
  void add_to(std::vector<zmq::pollitem_t>* items);
  void receive(const std::vector<zmq::pollitem_t>& items, Mono now);
  Mono wake_at() const;

  // At the end of the run: puts all that has no answer into the spool queue.
  void spool_all();
  // Reports what is on the spool queue's disk.
  void report_spooled();
  // Sends BYE if every submission has been answered, and closes the connection.
  void close();

  ProducerSession& session() { return session_; }
  const ProducerSession& session() const { return session_; }
  const ClientConnection& connection() const { return connection_; }
  const Endpoint& broker() const { return parts_.broker; }
  bool connected() const { return connection_.connected(); }
  bool is_unreachable() const { return unreachable_; }  // for spool_after
  Mono last_seen() const { return last_seen_; }         // Mono::min(): never
  // The broker's refusal, if this client will not try again.
  const Error* final_refusal() const {
    const auto& refusal = connection_.refusal();
    return parts_.alone && refusal && refusal->for_good ? &refusal->error : nullptr;
  }
  // Neither answered nor in the spool queue's files.
  uint64_t unsafe() const { return direct_ + unwritten_; }
  // Of this run, by the broker.
  uint64_t unanswered() const { return unanswered_; }
  uint64_t outstanding() const { return session_.outstanding(); }
  // Whether a submission would go into the spool queue now.
  bool fills_spool_queue() const {
    return spool_queue() && (unreachable_ || held_ || spool_queue()->unloaded() > 0);
  }
  uint64_t spooled() const { return spool_queue() ? spool_queue()->jobs() : 0; }
  // Of an earlier run: confirmed, rejected for good.
  uint64_t forwarded() const { return forwarded_; }
  uint64_t refused() const { return refused_; }
  uint64_t emptied() const { return emptied_; }  // of the spool queue, confirmed, of any run

 private:
  SpoolQueue* spool_queue() const { return parts_.spool_queue; }
  bool in_spool_queue(SeqRange seqs) const {
    return spool_queue() && seqs.first < spool_queue_end_;
  }
  bool ours(SeqRange seqs) const { return seqs.first >= parts_.first; }

  void drop(bool was_connected);
  void update_reachability(Mono now);
  void spool_unanswered();
  void record_rejects(Mono now, Millis longest);
  Result<void> load_from_spool();
  void on_message(const protocol::FromBroker& message, Mono now);
  void on_welcome(const protocol::Welcome& welcome);

  // Each event goes to the ledger first, then to the spool queue.
  void sent(const Sent& event) override;
  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void postponed(const Rejected& event) override { listener_.postponed(event); }
  void ended(const Ended& event) override;
  bool collects(protocol::JobRange jobs) override { return listener_.collects(jobs); }
  void found(const protocol::Outcome::Entry& entry) override { listener_.found(entry); }
  void told(protocol::JobRange jobs, protocol::JobState state) override {
    listener_.told(jobs, state);
  }
  void contradicted(SeqRange seqs, JobId job) override { listener_.contradicted(seqs, job); }

  const Parts parts_;
  Listener& listener_;
  ClientConnection connection_;
  ProducerSession session_;
  ProducerSession::Frames frames_;
  size_t spool_item_ = 0;  // of the spool queue, among those of the last add_to()

  bool unreachable_ = false;
  bool held_ = false;  // the broker accepts nothing for now, and the spool queue waits for it
  Mono last_seen_ = Mono::min();  // connected
  std::optional<Mono> disconnected_since_;
  Seq spool_queue_end_;  // sequences below it that have no answer are in the spool queue
  Seq safe_end_;         // those below this are on disk, as reported to the listener
  uint64_t direct_ = 0;  // unanswered, in the session only
  uint64_t unanswered_ = 0;
  uint64_t ahead_ = 0;
  uint64_t unwritten_ = 0;  // on their way into the spool queue's files
  uint64_t forwarded_ = 0, refused_ = 0, emptied_ = 0;
  // Rejected for good, still to be written to rejected.ndjson.
  struct PendingReject {
    SeqRange seqs;
    std::string reason, message;
  };
  std::deque<PendingReject> pending_rejects_;
  Mono record_again_at_;
  RepeatLimiter pending_rejects_logged_{Millis(10'000)};
};

}  // namespace millrace::producer
