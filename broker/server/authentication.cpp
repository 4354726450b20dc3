// The half of Server that opens its ports and knows of keys: which frames are let in, and what
// happens when a key is taken off the list. The core hears only that a peer is gone.
#include <algorithm>

#include "broker/server/server.h"
#include "common/os/log.h"

namespace millrace::server {
namespace {

// What libzmq may hold of one connection besides two frames, and of all together. A connection
// whose frames wait for the loop holds up to kMaxReceivedBytes: its high-water mark.
constexpr uint64_t kUnreadBytes = kMaxReceivedBytes + (8 << 20);
constexpr uint64_t kUnreadTotal = 1 << 30;

protocol::Fault revoked(SessionId session) {
  return {session, "revoked", "the key of this connection is not on the broker's allow-list"};
}

std::string_view user_of(zmq::message_t& frame) {
  const char* key = zmq_msg_gets(frame.handle(), "User-Id");
  return key ? key : "";
}

}  // namespace

Result<void> Server::start_authenticator() {
  if (!options_.curve) return {};
  auto door = ZapAuthenticator::start(context_, options_.curve->allow_file, wake_);
  if (!door) return door.error();
  door_ = *std::move(door);
  take_changed_keys();
  return {};
}

Result<void> Server::open_routers() {
  const size_t max_frame = options_.core.max_job_size + protocol::kFrameSlack;
  const auto& core = options_.core;
  ConnectionLimits limits{options_.max_connections, 2 * max_frame + kUnreadBytes,
                          std::max(kUnreadTotal, 2 * (2 * max_frame + kUnreadBytes))};
  limits.silence_time = std::max(limits.silence_time, 4 * int(core.liveness) * core.heartbeat);
  guard_ = std::make_unique<ConnectionGuard>(context_, limits, options_.descriptors,
                                             options_.curve.has_value());
  std::optional<RouterKeys> keys;
  if (options_.curve) keys = RouterKeys{options_.curve->own.secret_key, ZapAuthenticator::kDomain};
  auto open = [&](core::Port port, const std::string& endpoint, const char* flag) {
    return Router::open(context_, endpoint, max_frame, flag, ConnectionGuard::monitor_of(port),
                        keys);
  };
  auto backend = open(core::Port::backend, options_.backend, "--backend");
  if (!backend) return backend.error();
  auto frontend = open(core::Port::frontend, options_.frontend, "--frontend");
  if (!frontend) return frontend.error();
  backend_.emplace(*std::move(backend));
  frontend_.emplace(*std::move(frontend));
  backend_->set_budget(send_budget_);
  frontend_->set_budget(send_budget_);
  return {};
}

void Server::note_session(core::Route route, int descriptor, SessionId session) {
  auto found = loop_.core().sessions().find(session);
  if (found == loop_.core().sessions().end()) return;
  const core::Route held = found->second.route;
  if (!(held == route)) return;
  guard_->counters().session_seen(descriptor);
  constexpr size_t kLeastCrowd = 1024;
  if (connections_.size() >= kLeastCrowd + 2 * loop_.core().sessions().size())
    std::erase_if(connections_,
                  [&](const auto& entry) { return !loop_.core().has_session(entry.second.route); });
  connections_[ConnectionCounters::key_of(route)] = {route, descriptor};
}

bool Server::is_connected(core::Route route) const {
  auto found = connections_.find(ConnectionCounters::key_of(route));
  return found == connections_.end() || guard_->is_connected(found->second.descriptor, route);
}

bool Server::is_connected(core::Route route, int descriptor) const {
  return descriptor < 0 ? is_connected(route) : guard_->is_connected(descriptor, route);
}

core::KeyId Server::key_of(Router::Received& received) {
  return door_ ? admission_.id_of(user_of(received.frame)) : core::KeyId{};
}

bool Server::admits(core::Route route, Router::Received& received) {
  if (!door_) return true;
  if (admission_.is_crowded()) {
    std::vector<core::Route> routes;
    for (const auto& [id, session] : loop_.core().sessions()) routes.push_back(session.route);
    admission_.keep_only(routes);
  }
  if (admission_.had_other_key(route, user_of(received.frame))) loop_.expel(route);
  if (admission_.admits(route, user_of(received.frame))) return true;
  loop_.refuse(route, revoked(protocol::session_of(received.frame.to_string_view())));
  guard_->close(route, kLastWords);
  return false;
}

void Server::take_changed_keys() {
  if (!door_ || door_->generation() == keys_generation_) return;
  keys_generation_ = door_->generation();
  for (core::Route route : admission_.change_keys(door_->allowed())) {
    log_warning("the key of a connection was removed from the allow-list",
                {{"port", name_of(route.port)}});
    loop_.drop_received(route);
    std::vector<SessionId> sessions = loop_.expel(route);
    if (sessions.empty()) sessions.push_back(SessionId{});  // it has not said HELLO yet
    for (SessionId session : sessions) loop_.refuse(route, revoked(session));
    guard_->close(route, kLastWords);
  }
}

}  // namespace millrace::server
