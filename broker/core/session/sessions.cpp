#include "broker/core/session/sessions.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::core {

// One message at a time waits for a session.
bool Sessions::contest(Route route, KeyId key, SessionId id, const Uuid& peer, Output& out) {
  Session* older = of_peer(peer);
  if (!older || find(id) || older->route == route || older->key != key || !is_in_use(*older))
    return false;
  std::optional<Takeover>& takeover = older->takeover;
  if (takeover && takeover->newer == id) {
    if (takeover->is_answered || takeover->has_lapsed) return false;
    out.contested = older->id;
    return true;
  }
  const bool is_pending = takeover && !takeover->is_answered;
  if (is_pending && takeover->newer != SessionId{}) return false;
  if (!can_wait_ || !can_wait_(route)) return false;
  if (is_pending) {
    takeover->newer = id;  // it came again over another connection
  } else {
    takeover = Takeover{id, context_.now.mono};
    send(*older, protocol::Heartbeat{}, out, true);
  }
  out.contested = older->id;
  return true;
}

bool Sessions::is_decided(SessionId older, SessionId newer, bool all_read) {
  Session* session = find(older);
  if (!session || !session->takeover || session->takeover->newer != newer || !is_in_use(*session))
    return true;
  Takeover& takeover = *session->takeover;
  if (takeover.is_answered) return true;
  if (all_read && context_.now.mono - takeover.since >= takeover_time(context_.settings.heartbeat))
    takeover.has_lapsed = true;
  return takeover.has_lapsed;
}

void Sessions::withdraw(SessionId older, SessionId newer) {
  Session* session = find(older);
  if (session && session->takeover && session->takeover->newer == newer)
    session->takeover->newer = {};
}

std::optional<protocol::Fault> Sessions::why_not_open(Route route, KeyId key, SessionId id,
                                                      const Uuid& peer) const {
  auto refused = [&](std::string_view code, std::string why) {
    return protocol::Fault{
        id, code, std::move(why),
        protocol::About{protocol::About::Kind::broker, context_.state.broker().value}};
  };
  auto same = table_.find(id);
  const bool is_open = same != table_.end();
  if (is_open && !(same->second.route == route && same->second.key == key))
    return refused("not_yours",
                   "another connection has opened this session: draw a new random number for each");
  const Session* older = of_peer(peer);
  const bool is_from_here = older && older->route == route;
  const bool has_lapsed =
      older && older->takeover && older->takeover->newer == id && older->takeover->has_lapsed;
  if (older && (older->key != key || (!is_from_here && !has_lapsed && is_in_use(*older))))
    return refused("not_yours",
                   "another connection has a session of this producer or worker: try again when it "
                   "is closed or silent; two processes need two IDs");
  if (!is_open && !is_from_here && on(route).size() >= kMaxSessionsPerConnection)
    return refused("too_many_sessions",
                   "this connection has " + std::to_string(kMaxSessionsPerConnection) +
                       " sessions, the maximum: end one with BYE, or open another connection");
  if (auto own = of_key_.find(key); !is_open && !older && own != of_key_.end() &&
                                    own->second + table_.size() >= protocol::kMaxSessions)
    return refused("too_many_sessions",
                   "the broker has " + std::to_string(table_.size()) + " sessions, " +
                       std::to_string(own->second) +
                       " of them of this connection's key, which leaves as many to the others: end "
                       "some with BYE, or give clients keys of their own");
  if (!is_open && !older && table_.size() >= protocol::kMaxSessions)
    return refused("too_many_sessions", "the broker has " + std::to_string(protocol::kMaxSessions) +
                                            " sessions, the maximum: try again later");
  return std::nullopt;
}

Session& Sessions::open(Route route, KeyId key, SessionId id, const Uuid& peer) {
  auto [place, is_new] = table_.try_emplace(id);
  MILLRACE_CHECK(is_new);
  Session& session = place->second;
  session.id = id;
  session.route = route;
  session.key = key;
  session.peer = peer;
  session.last_received = session.last_sent = context_.now.mono;
  of_peer_[peer] = id;
  on_[number_of(route)].push_back(id);
  if (key != KeyId{}) ++of_key_[key];
  return session;
}

std::optional<Session> Sessions::close(SessionId id) {
  auto found = table_.find(id);
  if (found == table_.end()) return std::nullopt;
  Session session = std::move(found->second);
  table_.erase(found);
  auto& siblings = on_.at(number_of(session.route));
  std::erase(siblings, id);
  if (siblings.empty()) on_.erase(number_of(session.route));
  if (auto own = of_key_.find(session.key); own != of_key_.end() && --own->second == 0)
    of_key_.erase(own);
  auto current = of_peer_.find(session.peer);
  if (current != of_peer_.end() && current->second == id) of_peer_.erase(current);
  return session;
}

Session* Sessions::find(SessionId id) {
  auto found = table_.find(id);
  return found == table_.end() ? nullptr : &found->second;
}

const Session* Sessions::find(SessionId id) const {
  auto found = table_.find(id);
  return found == table_.end() ? nullptr : &found->second;
}

Session* Sessions::of_peer(const Uuid& peer) {
  auto found = of_peer_.find(peer);
  return found == of_peer_.end() ? nullptr : &table_.at(found->second);
}

const Session* Sessions::of_peer(const Uuid& peer) const {
  auto found = of_peer_.find(peer);
  return found == of_peer_.end() ? nullptr : &table_.at(found->second);
}

const std::vector<SessionId>& Sessions::on(Route route) const {
  static const std::vector<SessionId> kNone;
  auto found = on_.find(number_of(route));
  return found == on_.end() ? kNone : found->second;
}

std::string Sessions::name_of(Route route) const {
  const auto& sessions = on(route);
  if (sessions.empty()) return "unknown";
  const Session& first = table_.at(sessions.front());
  return first.is_worker ? first.name : "producer " + first.peer.hex();
}

bool Sessions::every_producer_knows_draining() const {
  return std::all_of(table_.begin(), table_.end(), [](const auto& entry) {
    const Session& session = entry.second;
    return session.is_worker || session.knows_draining || !session.reachable;
  });
}

bool Sessions::has_room(const Session& session) const {
  return session.reachable && (!has_room_ || has_room_(session.route));
}

Held Sessions::held() const {
  uint64_t bytes = hash_map_bytes(table_) + hash_map_bytes(of_peer_) + hash_map_bytes(on_) +
                   on_.size() * allocation_bytes(sizeof(SessionId));
  for (const auto& [id, session] : table_) {
    bytes += string_bytes(session.name) + deque_bytes(session.questions);
    for (const std::string& label : session.labels) bytes += sizeof(label) + string_bytes(label);
  }
  return {"sessions", table_.size(), bytes};
}

void Sessions::send(Session& session, protocol::FromBroker message, Output& out, bool at_once) {
  session.last_sent = context_.now.mono;
  out.sends.push_back({session.route, session.id, std::move(message), at_once});
}

void Sessions::send_welcome(Session& session, std::vector<Lease> stale, Output& out) {
  protocol::Welcome welcome;
  welcome.broker = context_.state.broker();
  welcome.incarnation = context_.state.incarnation();
  welcome.heartbeat = context_.settings.heartbeat;
  welcome.liveness = context_.settings.liveness;
  welcome.max_job_size = context_.settings.max_job_size;
  welcome.window_jobs = context_.settings.window_jobs;
  welcome.window_bytes = context_.settings.window_bytes;
  welcome.durability = context_.settings.durability;
  welcome.lease = context_.settings.lease;
  welcome.stale = std::move(stale);
  send(session, std::move(welcome), out);
}

void Sessions::refuse(Route route, const protocol::Fault& fault, Output& out) {
  ++context_.tally.errors;
  out.sends.push_back(
      {route, fault.session, protocol::ErrorReply{fault.code, fault.message, fault.about}, true});
}

std::vector<SessionId> Sessions::tick(Mono::duration late, Output& out) {
  const Mono now = context_.now.mono;
  const Millis heartbeat = context_.settings.heartbeat;
  std::vector<SessionId> silent;
  for (auto& [id, session] : table_) {
    session.last_received = std::min(session.last_received + late, now);
    if (session.takeover) session.takeover->since += late;
    if (now - session.last_received > heartbeat * context_.settings.liveness) {
      silent.push_back(id);
    } else if (now - session.last_sent >= heartbeat * 3 / 4) {
      send(session, protocol::Heartbeat{}, out, true);
    }
  }
  std::sort(silent.begin(), silent.end());  // the order must not depend on a hash table
  return silent;
}

}  // namespace millrace::core
