#include "tests/sim/network.h"

#include <algorithm>

namespace millrace::sim {

// One TCP connection.
struct Connection {
  size_t path = 0;
  Port port{};
  uint64_t route = 0;
  std::shared_ptr<Socket*> socket;
  bool client_open = true;  // the client's kernel answers
  bool broker_open = true;
  // Each way: when the last frame arrives, what waits for a blocked path, and whether it is dead.
  struct Way {
    Nanos last = 0;
    std::deque<Bytes> waiting;  // null: the end of the stream
    bool dead = false;
    bool held = false;  // until its successor has spoken
  } to_broker, to_client;
  Way& way(bool up) { return up ? to_broker : to_client; }
};

namespace {

constexpr Nanos kReconnect = 100 * kMilli;  // and a random part of the same size
constexpr Nanos kSmallestGap = 200;
constexpr uint64_t kResetPerMille = 300;

}  // namespace

Socket::Socket(Network& network, size_t path, Port port, std::function<void()> on_frame)
    : network_(network),
      path_(path),
      port_(port),
      on_frame_(std::move(on_frame)),
      self_(std::make_shared<Socket*>(this)) {
  network_.connect(*this, 0);
}

Socket::~Socket() {
  network_.close(*this);
  *self_ = nullptr;
}

void Socket::send(std::string frame) {
  auto bytes = std::make_shared<const std::string>(std::move(frame));
  if (connection_) return network_.transmit(connection_, true, std::move(bytes));
  unsent_.push_back(std::move(bytes));
}

bool Socket::receive(Bytes* frame) {
  if (arrived_.empty()) return false;
  *frame = std::move(arrived_.front());
  arrived_.pop_front();
  return true;
}

size_t Network::add_path(std::string name, Nanos latency) {
  paths_.push_back({std::move(name), latency});
  return paths_.size() - 1;
}

void Network::listen(Receiver receiver) { receiver_ = std::move(receiver); }

Nanos Network::latency(const Path& path) {
  Nanos base = path.latency + path.extra;
  return base / 2 + Nanos(random_.below(uint64_t(base) + 1));
}

void Network::connect(Socket& socket, Nanos wait) {
  wait += 2 * latency(paths_[socket.path_]);
  world_.after(wait, [this, self = socket.self_] {
    if (*self) open(**self);
  });
}

void Network::open(Socket& socket) {
  Path& path = paths_[socket.path_];
  if (socket.connection_) return;
  if (!receiver_ || path.to_broker_blocked || path.to_client_blocked)
    return connect(socket, kReconnect + Nanos(random_.below(uint64_t(kReconnect))));
  auto connection = std::make_shared<Connection>();
  connection->path = socket.path_;
  connection->port = socket.port_;
  connection->route = path.newest_route = next_route_++;
  connection->socket = socket.self_;
  routes_[connection->route] = connection;
  std::erase_if(all_, [](const auto& weak) { return weak.expired(); });
  all_.push_back(connection);
  socket.connection_ = connection;
  world_.count("network", "connections");
  for (Bytes& frame : std::exchange(socket.unsent_, {}))
    transmit(connection, true, std::move(frame));
}

void Network::close(Socket& socket) {
  if (!socket.connection_) return;
  auto connection = std::exchange(socket.connection_, nullptr);
  connection->client_open = false;
  // Unread bytes make the kernel send a reset, which overtakes what is on its way.
  if (random_.chance(kResetPerMille)) lose(*connection, true), connection->to_broker.dead = true;
  if (connection->to_broker.dead) {
    if (connection->broker_open)
      world_.after(latency(paths_[connection->path]),
                   [this, connection] { forget_route(connection); });
    return;
  }
  transmit(connection, true, nullptr);
}

void Network::transmit(const std::shared_ptr<Connection>& connection, bool to_broker, Bytes frame) {
  ++frames_;
  Connection::Way& way = connection->way(to_broker);
  way.last = std::max(world_.now() + latency(paths_[connection->path]), way.last + kSmallestGap);
  world_.at(way.last, [this, connection, to_broker, frame]() mutable {
    arrive(connection, to_broker, std::move(frame));
  });
  if (!frame || !random_.chance(paths_[connection->path].doubled_per_mille)) return;
  world_.count("network", "frames doubled");
  way.last += kSmallestGap;
  world_.at(way.last, [this, connection, to_broker, frame = std::move(frame)]() mutable {
    arrive(connection, to_broker, std::move(frame));
  });
}

void Network::lose(Connection& connection, bool to_broker) {
  auto& waiting = connection.way(to_broker).waiting;
  if (!waiting.empty()) world_.count("network", "frames lost", waiting.size());
  waiting.clear();
}

void Network::arrive(const std::shared_ptr<Connection>& connection, bool to_broker, Bytes frame) {
  Connection::Way& way = connection->way(to_broker);
  const Path& path = paths_[connection->path];
  if (way.dead) {
    if (frame) world_.count("network", "frames lost");
    return;
  }
  bool blocked = way.held || (to_broker ? path.to_broker_blocked : path.to_client_blocked);
  if (blocked || !way.waiting.empty()) {
    way.waiting.push_back(std::move(frame));
    return;
  }
  take_in_order(connection, to_broker, frame);
}

void Network::take_in_order(const std::shared_ptr<Connection>& connection, bool to_broker,
                            const Bytes& frame) {
  if (to_broker) {
    if (!connection->broker_open) {
      // The broker's host is back and knows nothing of this connection.
      if (receiver_) break_for_client(connection, latency(paths_[connection->path]));
      return;
    }
    if (!frame) return forget_route(connection);
    world_.mix(*frame);
    world_.count("network", "frames");
    if (connection->route < paths_[connection->path].newest_route)
      world_.count("network", "frames after their successor's");
    receiver_(connection->port, connection->route, frame);
    return;
  }
  Socket* socket = *connection->socket;
  if (!socket || socket->connection_ != connection) return;
  if (!frame) return break_for_client(connection, 0);
  world_.mix(*frame);
  world_.count("network", "frames");
  socket->arrived_.push_back(frame);
  socket->on_frame_();
}

void Network::forget_route(const std::shared_ptr<Connection>& connection) {
  connection->broker_open = false;
  routes_.erase(connection->route);
}

// The client's socket notices, and connects anew by itself.
void Network::break_for_client(const std::shared_ptr<Connection>& connection, Nanos wait) {
  connection->to_client.dead = connection->to_broker.dead = true;
  world_.after(wait, [this, connection] {
    Socket* socket = *connection->socket;
    if (!socket || socket->connection_ != connection) return;
    socket->connection_ = nullptr;
    connect(*socket, kReconnect + Nanos(random_.below(uint64_t(kReconnect))));
  });
}

bool Network::send(uint64_t route, std::string frame) {
  auto found = routes_.find(route);
  if (found == routes_.end()) return false;
  if (paths_[found->second->path].refused) {
    world_.count("network", "sends refused");
    return false;
  }
  transmit(found->second, false, std::make_shared<const std::string>(std::move(frame)));
  return true;
}

void Network::stop_listening(bool host_lost) {
  receiver_ = nullptr;
  auto routes = std::exchange(routes_, {});
  std::vector<std::shared_ptr<Connection>> connections;
  for (auto& [route, connection] : routes) connections.push_back(connection);
  std::sort(connections.begin(), connections.end(),
            [](const auto& a, const auto& b) { return a->route < b->route; });
  for (auto& connection : connections) {
    connection->broker_open = false;
    if (host_lost) {
      connection->to_client.dead =
          true;  // what was on its way; the client learns when it sends again
    } else {
      transmit(connection, false, nullptr);
    }
  }
}

std::vector<std::shared_ptr<Connection>> Network::connections_of(size_t path) {
  std::vector<std::shared_ptr<Connection>> found;
  for (const auto& weak : all_)
    if (auto connection = weak.lock(); connection && connection->path == path)
      found.push_back(connection);
  return found;
}

void Network::reset(size_t path) {
  for (auto& connection : connections_of(path)) {
    lose(*connection, true);
    lose(*connection, false);
    break_for_client(connection, latency(paths_[path]));
    if (connection->broker_open)
      world_.after(latency(paths_[path]), [this, connection] { forget_route(connection); });
  }
}

void Network::block(size_t path, bool to_broker, bool to_client) {
  paths_[path].to_broker_blocked = to_broker;
  paths_[path].to_client_blocked = to_client;
}

void Network::unblock(size_t path) {
  if (!paths_[path].to_broker_blocked && !paths_[path].to_client_blocked) return;
  block(path, false, false);
  for (auto& connection : connections_of(path)) {
    // TCP tries again with growing pauses: each connection comes back at its own time.
    Nanos wait = Nanos(random_.below(uint64_t(2 * kSecond)));
    bool breaks = random_.chance(kResetPerMille);
    world_.after(wait, [this, connection, breaks] {
      if (breaks && connection->client_open) {
        lose(*connection, true);
        lose(*connection, false);
        break_for_client(connection, 0);
        if (connection->broker_open) forget_route(connection);
        return;
      }
      release(connection, true);
      release(connection, false);
    });
  }
}

void Network::release(const std::shared_ptr<Connection>& connection, bool to_broker) {
  const Path& path = paths_[connection->path];
  Connection::Way& way = connection->way(to_broker);
  if (way.held || (to_broker ? path.to_broker_blocked : path.to_client_blocked))
    return;  // blocked again meanwhile
  if (way.dead) return lose(*connection, to_broker);
  for (Bytes& frame : std::exchange(way.waiting, {})) take_in_order(connection, to_broker, frame);
}

void Network::hold_back(size_t path) {
  for (auto& connection : connections_of(path)) connection->to_broker.held = true;
}

void Network::overtake(size_t path) {
  for (auto& connection : connections_of(path)) {
    Socket* socket = *connection->socket;
    if (!connection->to_broker.held || !socket || socket->connection_ != connection) continue;
    connection->client_open = false;
    connection->to_client.dead = true;
    socket->connection_ = nullptr;
    connect(*socket, 0);
  }
}

void Network::settle(size_t path) {
  for (auto& connection : connections_of(path)) {
    if (!std::exchange(connection->to_broker.held, false)) continue;
    release(connection, true);
    if (!connection->client_open && connection->broker_open) forget_route(connection);
  }
}

void Network::lose_host(size_t path) {
  for (auto& connection : connections_of(path)) {
    if (!connection->client_open) continue;
    connection->client_open = false;
    connection->to_client.dead = true;
    Socket* socket = *connection->socket;
    if (socket && socket->connection_ == connection)
      socket->connection_ = nullptr;  // nothing is closed
  }
}

}  // namespace millrace::sim
