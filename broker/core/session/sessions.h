// Who is connected: the sessions, by id, by connection and by producer or worker; what is sent to
// them; and who has fallen silent.
// Shape:   contest() → why_not_open() → open() → send() … → close(), which only the core calls: the
//          other parts hold something of a session too
// Limits:  kMaxSessionsPerConnection; protocol::kMaxSessions, of which one key leaves as many to the
//          others as it has
// Threads: one
#pragma once

#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "broker/core/session/context.h"

namespace millrace::core {

class Sessions {
 public:
  using HasRoom = std::function<bool(Route)>;
  using IsConnected = std::function<bool(Route)>;
  using CanWait = std::function<bool(Route)>;
  using Table = std::unordered_map<SessionId, Session>;

  explicit Sessions(Context& context) : context_(context) {}
  void set_has_room(HasRoom has_room) { has_room_ = std::move(has_room); }
  void set_is_connected(IsConnected is_connected) { is_connected_ = std::move(is_connected); }
  void set_can_wait(CanWait can_wait) { can_wait_ = std::move(can_wait); }

  // True: a HELLO or REGISTER has to wait until it is known whether the older session of the same
  // producer or worker is alive. Then the output names that session, and the message is to be
  // received again once is_decided(), or is withdrawn with its connection.
  bool contest(Route route, KeyId key, SessionId id, const Uuid& peer, Output& out);
  // `all_read`: nothing that has arrived at the older session's port waits to be received.
  bool is_decided(SessionId older, SessionId newer, bool all_read);
  void withdraw(SessionId older, SessionId newer);
  // Why a HELLO or REGISTER opens nothing, and ends nothing.
  std::optional<protocol::Fault> why_not_open(Route route, KeyId key, SessionId id,
                                              const Uuid& peer) const;
  Session& open(Route route, KeyId key, SessionId id, const Uuid& peer);
  std::optional<Session> close(SessionId id);  // what it was; nothing: there is none

  const Table& all() const { return table_; }
  Table& all() { return table_; }
  size_t size() const { return table_.size(); }
  Session& at(SessionId id) { return table_.at(id); }
  const Session& at(SessionId id) const { return table_.at(id); }
  Session* find(SessionId id);
  const Session* find(SessionId id) const;
  // The current session of a producer or worker; null: it has none.
  Session* of_peer(const Uuid& peer);
  const Session* of_peer(const Uuid& peer) const;
  // Of one connection, in the order in which they were opened.
  const std::vector<SessionId>& on(Route route) const;
  // Who it is that uses this connection, for people.
  std::string name_of(Route route) const;
  bool every_producer_knows_draining() const;
  bool has_room(const Session& session) const;
  Held held() const;

  void send(Session& session, protocol::FromBroker message, Output& out, bool at_once = false);
  void send_welcome(Session& session, std::vector<Lease> stale, Output& out);
  void refuse(Route route, const protocol::Fault& fault, Output& out);
  // Heartbeats to whom nothing was sent; returns who has been silent for too long, ordered. For as
  // long as `late` this process did not run, and what it has not received since is not their
  // silence.
  std::vector<SessionId> tick(Mono::duration late, Output& out);

 private:
  bool is_in_use(const Session& session) const {
    return session.reachable && is_connected_ && is_connected_(session.route);
  }

  Context& context_;
  Table table_;
  std::unordered_map<uint64_t, std::vector<SessionId>> on_;  // by number_of() their route
  std::unordered_map<Uuid, SessionId> of_peer_;
  std::unordered_map<KeyId, size_t> of_key_;
  HasRoom has_room_;          // none: everyone has
  IsConnected is_connected_;  // none: nobody is, so that the newer session wins
  CanWait can_wait_;          // none: nobody can
};

}  // namespace millrace::core
