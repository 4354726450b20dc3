// A producer in the thread of its caller: the session (its rules), the link (the life of the
// connection), the socket and the ledger, joined.
//
//   auto client = Client::open(options, listener);
//   (*client)->session().submit("images", {}, payload);
//   while ((*client)->session().unanswered()) (*client)->poll(Mono::max());
//   (*client)->close();
//
// Shape:   poll() is one turn: what has to be sent is sent, what came is given to the listener
// Limits:  kMaxFrame for a message from the broker, kMessagesPerTurn a turn
// Errors:  unavailable: nobody answered within the connect time-out, or what answered is no broker
//          for producers, or will not have this one's key. config: a key file. After the first answer the client comes back for ever. io: the ledger.
//          After an error the client is of no more use.
// Owns:    context, socket and ledger; the listener must outlive it
// Threads: one thread, besides libzmq's own
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <zmq.hpp>

#include "common/curve.h"
#include "common/dealer.h"
#include "common/link.h"
#include "common/repeat_limiter.h"
#include "common/units.h"
#include "producer/ledger.h"
#include "producer/session/session.h"

namespace millrace::producer {

inline constexpr int kFrontendPort = 5570;

struct ClientOptions {
  Endpoint broker;
  CurveFlags curve;
  SessionConfig session;
  Millis connect_timeout{10'000};
  std::string ledger;  // empty: none
  // This producer has sent before, as the ledger says, and may send some of it again.
  bool resumed = false;
  // Called before anything leaves; a failure ends the client. What its caller has to keep of the
  // answers is safe before the broker hears that they came.
  std::function<Result<void>()> before_send;
};

class Client : private Listener {
 public:
  static constexpr size_t kMaxFrame = 256 << 20;
  static constexpr size_t kMessagesPerTurn = 256;

  static Result<std::unique_ptr<Client>> open(ClientOptions options, Listener& listener);

  // Submissions, questions and figures; what they make to be sent goes out with the next poll().
  ProducerSession& session() { return *session_; }

  // Waits until a message came, `extra_fd` is readable, the time is there, or something was done
  // for the connection.
  Result<void> poll(Mono until, int extra_fd = -1);
  // The moment at which what the listener hears of had arrived.
  Mono now() const { return now_; }
  bool connected() const { return link_.connected(); }

  // Says goodbye if every submission has been answered, and closes the connection.
  void close();

 private:
  Client(ClientOptions options, Listener& listener);

  Result<void> keep_connection();
  Result<void> connect();
  Result<void> send_pending();
  Result<void> receive_all();
  Result<void> take(std::string_view frame);
  Result<void> take(const protocol::FromBroker& message);
  void welcome(const protocol::Welcome& message);
  void drop_connection();
  Result<void> heed_refusal();
  Error unreachable() const;
  Error refused(const protocol::ErrorReply& reply) const;

  // Each event goes to the ledger first.
  void sent(const Sent& event) override;
  void confirmed(const Confirmed& event) override;
  void rejected(const Rejected& event) override;
  void postponed(const Rejected& event) override { listener_.postponed(event); }
  void ended(const Ended& event) override { listener_.ended(event); }
  bool collects(protocol::JobRange jobs) override { return listener_.collects(jobs); }
  void found(const protocol::Outcome::Entry& entry) override { listener_.found(entry); }
  void told(protocol::JobRange jobs, protocol::JobState state) override {
    listener_.told(jobs, state);
  }
  void contradicted(SeqRange seqs, JobId job) override { listener_.contradicted(seqs, job); }

  ClientOptions options_;
  std::optional<CurveClient> curve_;
  Listener& listener_;
  zmq::context_t context_;
  std::optional<Dealer> dealer_;
  Link link_;
  std::optional<ProducerSession> session_;
  std::optional<Ledger> ledger_;
  RepeatLimiter refusals_{Millis(10'000)};
  Mono now_;
  Mono give_up_at_;
};

}  // namespace millrace::producer
