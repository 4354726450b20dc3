// A producer in the thread of its caller: a connection to each broker, which of them takes a
// submission, the ledger and the spool, joined.
//
//   auto client = Client::open(options, listener);
//   (*client)->submit("images", {}, payload);
//   while ((*client)->unanswered()) (*client)->poll(Mono::max());
//   (*client)->close();
//
// Shape:   poll() is one turn: what has to be sent is sent, what came is given to the listener
//          1. Sequences are the client's: they ascend over all brokers, so each broker sees gaps.
//          2. A submission is one broker's from submit() on: it is never sent to another.
// Limits:  Connection's; the spool's size
// Errors:  unavailable: nobody answered within the connect time-out, or all refuse the connection;
//          of one broker alone also what answered and is no broker for producers, or will not have
//          this one's key. config: a key file, a spool that has jobs for other brokers. After the
//          first answer the client comes back for ever. io: the ledger, the spool.
//          After an error the client is of no more use.
// Owns:    context, connections, ledger and spool; the listener must outlive it
// Threads: one thread, besides libzmq's own and the spool's
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/net/curve.h"
#include "producer/client/connection.h"
#include "producer/session/spread.h"

namespace millrace::producer {

struct ClientOptions {
  std::vector<Endpoint> brokers;  // one at least
  CurveFlags curve;
  SessionConfig session;
  Millis connect_timeout{10'000};
  std::string ledger;  // empty: none
  // This producer has sent before, as the ledger says, and may send some of it again.
  bool resumed = false;
  // What the ledger has lost of that, and another file shows: it is written first. The sequences'
  // queue; the producer is this one.
  LedgerEntries lost;
  std::string lost_queue;
  // Called before anything leaves; a failure ends the client. What its caller has to keep of the
  // answers is safe before the broker hears that they came.
  std::function<Result<void>()> before_send;
  // A directory: submissions go there while no broker is connected, and the producer's id is its.
  // Then there is no connect time-out: nothing is lost by waiting.
  std::string spool;
  uint64_t spool_bytes = 1 << 30;
  Millis spool_after{0};  // without a connection until a broker is held to be is_unreachable
};

class Client {
 public:
  // Of several brokers, how long those that have not answered at the start are waited for: a key
  // has its home among those that are known.
  static constexpr Millis kGather{1000};

  static Result<std::unique_ptr<Client>> open(ClientOptions options, Listener& listener);
  // A listener for each broker.
  static Result<std::unique_ptr<Client>> open(ClientOptions options,
                                              const std::vector<Listener*>& listeners);

  // ---- submissions, over all brokers

  // Which broker would take a submission now; nothing: it has to wait for an answer, or a broker.
  // `bytes` are those of the payload that have to fit into the spool; 0: the last may go beyond it.
  std::optional<size_t> route(std::string_view key = {}, uint64_t bytes = 0);
  bool has_room() { return route().has_value(); }
  bool is_gathering();  // not all of several brokers had their chance to answer yet
  Seq next_seq() const { return next_seq_; }
  // Leaves sequences out.
  void skip_to(Seq next);
  // To the broker that route() named. The queue's name must be valid.
  Seq submit(size_t to, std::string_view queue, const protocol::SubmitOptions& options,
             std::string_view payload);

  // By their brokers, those of this run in the spool included.
  uint64_t unanswered() const { return sum(&Connection::unanswered); }
  // Neither answered nor on this machine's disk.
  uint64_t unsafe() const { return sum(&Connection::unsafe); }
  uint64_t outstanding() const { return sum(&Connection::outstanding); }
  bool inquiring() const;
  bool knows_broker() const;  // one of them has answered
  bool connected() const;     // one of them is
  size_t connections() const;
  void cancel_outstanding();

  // ---- a broker of its own
  size_t brokers() const { return lines_.size(); }
  const Connection& line(size_t index) const { return lines_[index]; }
  ProducerSession& session(size_t index = 0) { return lines_[index].session(); }
  std::optional<size_t> find(BrokerId broker) const;

  // ---- the spool
  bool spool_is_full() const;
  bool spool_disk_full() const { return spool_ && spool_->disk_full(); }
  bool is_unreachable() const;  // no broker was there for spool_after, and there is a spool
  // Each broker has answered all it was given, the spool's included; or it is unreachable, and
  // what it has not answered is on this machine's disk.
  bool settled() const;
  // Of what earlier runs had left: confirmed, and rejected for good.
  uint64_t forwarded() const { return sum(&Connection::forwarded); }
  uint64_t refused() const { return sum(&Connection::refused); }
  // All that the spool had and a broker has confirmed.
  uint64_t emptied() const { return sum(&Connection::emptied); }
  Spool* spool() const { return spool_.get(); }

  // Waits until a message came, `extra_fd` is readable, the time is there, or something was done
  // for a connection.
  Result<void> poll(Mono until, int extra_fd = -1);
  // The moment at which what the listener hears of had arrived.
  Mono now() const { return now_; }

  // What has no answer goes to the spool, if there is one. Says goodbye to the brokers that have
  // answered everything, and closes the connections.
  Result<void> close();

 private:
  explicit Client(ClientOptions options);
  Result<void> prepare(const std::vector<Listener*>& listeners);
  Result<void> open_spool();
  uint64_t sum(uint64_t (Connection::*figure)() const) const;
  void look();
  void tell_of_disk();
  bool has_room_at(const Connection& line, uint64_t bytes) const;
  Result<void> check_brokers() const;
  Result<void> check_duplicate_brokers() const;
  Result<void> send_pending();
  void wait(Mono until, int extra_fd);
  Error unreachable() const;

  const ClientOptions options_;
  zmq::context_t context_;
  std::optional<Ledger> ledger_;
  std::unique_ptr<Spool> spool_;
  std::deque<Connection> lines_;
  Spread spread_;
  std::vector<Spread::Broker> seen_;  // the brokers, for spread_
  std::vector<zmq::pollitem_t> items_;
  Seq next_seq_{1};
  Mono now_;
  Mono gather_by_;  // in the past, once it is over
  Mono give_up_at_;
  bool disk_full_logged_ = false;
  bool closed_ = false;
};

}  // namespace millrace::producer
