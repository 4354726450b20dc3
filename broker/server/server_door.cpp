// The half of Server that opens its ports and knows of keys: which frames are let in, and what happens when a key is
// taken off the list. The core hears only that a peer is gone.
#include "broker/server/server.h"
#include "common/log.h"

namespace millrace::server {
namespace {

protocol::Fault revoked(SessionId session) {
  return {session, "revoked", "the key of this connection is not on the broker's allow-list"};
}

std::string_view user_of(zmq::message_t& frame) {
  const char* key = zmq_msg_gets(frame.handle(), "User-Id");
  return key ? key : "";
}

}  // namespace

Result<void> Server::open_door() {
  if (!options_.curve) return {};
  auto door = Doorkeeper::start(context_, options_.curve->allow_file, poke_);
  if (!door) return door.error();
  door_ = *std::move(door);
  take_changed_keys();
  return {};
}

Result<void> Server::open_routers() {
  const size_t max_frame = options_.core.max_job_size + protocol::kFrameSlack;
  auto keys = [this](const char* port) -> std::optional<RouterKeys> {
    if (!options_.curve) return std::nullopt;
    return RouterKeys{options_.curve->own.secret_key, Doorkeeper::kDomain,
                      Doorkeeper::monitor_of(port)};
  };
  auto backend = Router::open(context_, options_.backend, max_frame, "--backend", keys("backend"));
  if (!backend) return backend.error();
  auto frontend =
      Router::open(context_, options_.frontend, max_frame, "--frontend", keys("frontend"));
  if (!frontend) return frontend.error();
  backend_.emplace(*std::move(backend));
  frontend_.emplace(*std::move(frontend));
  return {};
}

bool Server::admits(core::Route route, Router::Received& received) {
  if (!door_) return true;
  if (admission_.is_crowded()) {
    std::vector<core::Route> routes;
    for (const auto& [id, session] : core_.sessions()) routes.push_back(session.route);
    admission_.keep_only(routes);
  }
  if (admission_.admits(route, user_of(received.frame))) return true;
  core_.refuse(route, revoked(protocol::session_of(received.frame.to_string_view())), out_);
  absorb(nullptr);
  return false;
}

void Server::take_changed_keys() {
  if (!door_ || door_->generation() == keys_generation_) return;
  keys_generation_ = door_->generation();
  for (core::Route route : admission_.change_keys(door_->allowed())) {
    log_warning("a connection's key was taken off the allow-list",
                {{"port", route.port == core::Port::frontend ? "frontend" : "backend"}});
    std::vector<SessionId> sessions = core_.expel(now_, route, out_);
    if (sessions.empty()) sessions.push_back(SessionId{});  // it has not said HELLO yet
    for (SessionId session : sessions) core_.refuse(route, revoked(session), out_);
  }
  absorb(nullptr);
}

}  // namespace millrace::server
