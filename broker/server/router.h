// One of the broker's two ROUTER sockets, with the rules that libzmq leaves to its user.
// Shape:   receive() → a route and one frame; send() → sent, kept for a peer that is slow, or nobody
//          1. ROUTER_MANDATORY: a message for an unknown peer is an answer (EHOSTUNREACH), never
//          silence.  2. What a slow peer does not take (EAGAIN) waits here, in order, and
//          flush() tries again; it says whose frames it had to drop.
// Limits:  for one peer, kMaxWaitingBytes here, then it is treated as unreachable, and about as much
//          in libzmq; frames up to max_frame (a larger one closes its connection)
// Errors:  open() says which address and why
// Owns:    the socket and what waits for slow peers; the context must outlive it
// Threads: one
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>
#include <zmq.hpp>

#include "common/curve.h"
#include "common/result.h"

namespace millrace::server {

inline constexpr size_t kMaxWaitingBytes = 64 << 20;

// With keys, everyone is refused whom the doorkeeper does not let in.
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

  enum class Sent { yes, later, nobody };
  Sent send(uint64_t route, std::string frame);
  std::vector<uint64_t> flush();
  bool has_waiting() const { return !waiting_.empty(); }

  zmq::socket_t& socket() { return socket_; }

 private:
  struct Waiting {
    std::deque<std::string> frames;
    size_t bytes = 0;
  };
  Router(zmq::socket_t socket, bool encrypted)
      : socket_(std::move(socket)), encrypted_(encrypted) {}
  uint64_t wire_bytes(size_t frame) const;
  uint64_t route_of(const zmq::message_t& routing_id);
  Sent try_send(uint64_t route, std::string& frame);

  zmq::socket_t socket_;
  bool encrypted_;
  std::unordered_map<uint64_t, Waiting> waiting_;
  // Routing ids that clients chose themselves, against the protocol page's advice; libzmq's own are
  // a zero byte and 32 bits, and are their own route.
  uint64_t next_named_ = uint64_t{1} << 32;
  std::unordered_map<std::string, uint64_t> named_;
  std::unordered_map<uint64_t, std::string> names_;
};

}  // namespace millrace::server
