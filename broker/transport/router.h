// One of the broker's two ROUTER sockets, with the rules that libzmq leaves to its user.
// Shape:   receive() → a route and one frame; send() → sent, kept for a peer that is slow, or nobody
//          1. ROUTER_MANDATORY: a message for an unknown peer is an answer (EHOSTUNREACH), never
//          silence.  2. libzmq gets no more of a connection than SendBudget lets it have; the rest
//          waits here, in order, until libzmq has freed some: then the wakeup comes, and flush() goes
//          on.  3. Who passes the budget is dropped: what waits for it is freed, and it gets nothing
//          more until it has read what libzmq holds for it. A ROUTER can't close its connection.
//          4. A routing id that is in use is never handed over: ROUTER_HANDOVER would give a stranger
//          what is meant for another. libzmq does not read from the newcomer.
// Limits:  those of SendBudget; frames up to max_frame (a larger one closes its connection)
// Errors:  open() says which address and why
// Owns:    the socket and what waits for slow peers; the context must outlive it
// Threads: one
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "broker/transport/send_budget.h"
#include "common/base/result.h"
#include "common/net/curve.h"

namespace millrace::server {

// What libzmq reads ahead of one connection, in frames of the largest size.
inline constexpr size_t kMaxReceivedBytes = 64 << 20;

// With keys, everyone is refused whom the authenticator does not let in.
struct RouterKeys {
  std::string secret_key;
  std::string domain;  // that ZAP is asked about
};

class Router {
 public:
  // `monitor`: where connections are reported; its reader must be connected already.
  static Result<Router> open(zmq::context_t& context, const std::string& endpoint, size_t max_frame,
                             const std::string& flag, const std::string& monitor,
                             const std::optional<RouterKeys>& keys = {});
  Router(Router&&) = default;
  Router& operator=(Router&&) = delete;
  ~Router();

  struct Received {
    uint64_t route = 0;
    zmq::message_t frame;
    bool malformed = false;  // not exactly one frame behind the routing id
    int descriptor = -1;     // of the connection; none if there is no frame
    uint64_t bytes = 0;      // on the wire, of all frames
  };
  // False when nothing is there.
  bool receive(Received* received);

  // Before the first send; must outlive this.
  void set_budget(SendBudget& budget) { budget_ = &budget; }
  enum class Sent { yes, later, nobody };
  Sent send(uint64_t route, std::string frame);
  // Sends what waits for connections that take it again; returns those that are gone.
  std::vector<uint64_t> flush();
  bool is_blocked() const { return is_blocked_; }  // libzmq took nothing: look again soon

  // A frame that waits elsewhere for its commit counts as well, from hold() to release().
  void hold(uint64_t route, size_t bytes);
  void release(uint64_t route, size_t bytes);
  // Less than `most` is on its way. If not, the wakeup comes when libzmq has freed some.
  bool has_room(uint64_t route, size_t most) const;
  // The connection with the most bytes held and waiting, and how many.
  std::pair<uint64_t, size_t> largest() const;
  enum class Limit { per_peer, total };  // of SendBudget
  void drop(uint64_t route, Limit passed);
  struct Dropped {
    uint64_t route = 0;
    Limit passed = Limit::per_peer;
    size_t unread = 0;       // bytes that wait for the peer to read
    size_t uncommitted = 0;  // that wait for their commit
  };
  std::vector<Dropped> take_dropped() { return std::exchange(dropped_, {}); }

  zmq::socket_t& socket() { return socket_; }

 private:
  struct Peer {
    std::shared_ptr<InTransit> transport = std::make_shared<InTransit>();
    std::deque<std::string> waiting;
    size_t waiting_bytes = 0, held_bytes = 0;
    bool is_dropped = false;

    size_t buffered() const { return waiting_bytes + held_bytes; }
  };
  Router(zmq::socket_t socket, bool encrypted)
      : socket_(std::move(socket)), encrypted_(encrypted) {}
  uint64_t wire_bytes(size_t frame) const;
  uint64_t route_of(const zmq::message_t& routing_id);
  Peer& peer_of(uint64_t route);
  void forget_idle();
  Sent send_waiting(uint64_t route, Peer& peer);
  Sent try_send(uint64_t route, Peer& peer, std::string& frame);

  zmq::socket_t socket_;
  bool encrypted_;
  SendBudget* budget_ = nullptr;
  std::unordered_map<uint64_t, Peer> peers_;
  std::unordered_set<uint64_t> waiting_;  // peers with frames that wait here
  std::vector<Dropped> dropped_;
  bool is_blocked_ = false;
  size_t crowd_ = 1024;  // peers_ is looked through for idle ones when it has grown to this
  // Routing ids that clients chose themselves, against the protocol page's advice; libzmq's own are
  // a zero byte and 32 bits, and are their own route.
  uint64_t next_named_ = uint64_t{1} << 32;
  std::unordered_map<std::string, uint64_t> named_;
  std::unordered_map<uint64_t, std::string> names_;
};

}  // namespace millrace::server
