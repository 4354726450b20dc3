// Sockets between clients and the broker, as ZeroMQ over TCP behaves: a client's socket connects by
// itself, again and again; the broker knows each TCP connection by another route; what was in
// flight when one breaks is lost, what had not left goes out on the next; nobody is told.
// Shape:   Socket::send() → the broker's Receiver; Network::send(route) → the socket's on_frame
//          1. Within one connection frames arrive in order and once.
//          2. Over connections there is no order: what a closed socket had sent may come after what
//          its successor sends.
//          3. A connection may be half-open: one side sends into nothing until it learns.
// Units:   Nanos of true time
// Owns:    the connections; a Socket is its client's, and the network must outlive it
// Threads: one
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/core.h"
#include "tests/sim/random.h"
#include "tests/sim/world.h"

namespace millrace::sim {

using Bytes = std::shared_ptr<const std::string>;
using core::Port;

class Network;
struct Connection;

// What lies between one client's host and the broker's.
struct Path {
  std::string name;
  Nanos latency = 0;
  Nanos extra = 0;  // while the network is slow
  bool to_broker_blocked = false;
  bool to_client_blocked = false;
  uint64_t doubled_per_mille = 0;
  uint64_t newest_route = 0;
  bool refused = false;  // the broker's socket takes nothing for this peer
};

class Socket {
 public:
  Socket(Network& network, size_t path, Port port, std::function<void()> on_frame);
  ~Socket();  // LINGER 0, or a short one: see close()
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void send(std::string frame);
  bool receive(Bytes* frame);

 private:
  friend class Network;
  Network& network_;
  const size_t path_;
  const Port port_;
  std::function<void()> on_frame_;
  std::shared_ptr<Connection> connection_;  // null while there is none
  std::deque<Bytes> unsent_;                // waits for a connection
  std::deque<Bytes> arrived_;
  std::shared_ptr<Socket*> self_;  // null inside once this is gone
};

class Network {
 public:
  using Receiver = std::function<void(Port, uint64_t route, Bytes)>;

  Network(World& world, Random random) : world_(world), random_(random) {}

  size_t add_path(std::string name, Nanos latency);
  Path& path(size_t index) { return paths_[index]; }

  // The broker's side.
  void listen(Receiver receiver);
  bool is_connected(uint64_t route) const { return routes_.contains(route); }
  bool send(uint64_t route, std::string frame);  // false: no such peer, or its buffer is full
  // The broker's process ended: clients hear of it. Or its host: they hear nothing until that is
  // back.
  void stop_listening(bool host_lost);

  // Faults.
  void reset(size_t path);  // its connections break, what is in flight is lost
  void block(size_t path, bool to_broker, bool to_client);
  void unblock(size_t path);    // what waited arrives late, or a reset comes
  void lose_host(size_t path);  // of the client: the broker's side stays open
  // From now on what the path's connections relocate to the broker is late; overtake() then lets
  // the client connect anew, and settle() lets the late frames in.
  void hold_back(size_t path);
  void overtake(size_t path);
  void settle(size_t path);

  uint64_t frames() const { return frames_; }

 private:
  friend class Socket;
  void connect(Socket& socket, Nanos wait);
  void open(Socket& socket);
  void close(Socket& socket);
  void transmit(const std::shared_ptr<Connection>& connection, bool to_broker, Bytes frame);
  void arrive(const std::shared_ptr<Connection>& connection, bool to_broker, Bytes frame);
  void take_in_order(const std::shared_ptr<Connection>& connection, bool to_broker,
                     const Bytes& frame);
  void release(const std::shared_ptr<Connection>& connection, bool to_broker);
  void break_for_client(const std::shared_ptr<Connection>& connection, Nanos wait);
  void forget_route(const std::shared_ptr<Connection>& connection);
  Nanos latency(const Path& path);
  std::vector<std::shared_ptr<Connection>> connections_of(size_t path);
  void lose(Connection& connection, bool to_broker);  // what waits in it

  World& world_;
  Random random_;
  std::vector<Path> paths_;
  Receiver receiver_;  // empty: nobody listens
  std::unordered_map<uint64_t, std::shared_ptr<Connection>> routes_;
  std::vector<std::shared_ptr<Connection>> orphans_;  // of a broker's host that is gone
  std::vector<std::weak_ptr<Connection>>
      all_;  // every connection that may still relocate something
  uint64_t next_route_ = 1;
  uint64_t frames_ = 0;
};

}  // namespace millrace::sim
