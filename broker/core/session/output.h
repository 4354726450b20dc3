// What the core wants done next: persist the records, in this order, and then send the messages.
// Shape:   a message goes out after everything emitted before it is durable, unless it is at_once
// Owns:    views in it hold until the next call into the core, and as long as the frame that was
//          received
// Threads: one
// Source:  etcd's raft Ready, ScyllaDB's raft fsm: persist this, then send that
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/session/session.h"
#include "common/protocol/codec.h"

namespace millrace::core {

struct OutRecord {
  Record record;
  std::shared_ptr<const void>
      owner;  // keeps what the record points to beyond the frame; may be null
};

struct Send {
  Route route;
  SessionId session;
  protocol::FromBroker message;
  bool at_once = false;  // it promises nothing
};

struct Output {
  std::vector<OutRecord> records;
  std::vector<Send> sends;
  std::list<std::string> texts;  // results and errors that OUTCOMEs among the sends point into
  std::optional<SessionId> contested;  // see Sessions::contest()
  void clear() { records.clear(), sends.clear(), texts.clear(), contested.reset(); }
};

}  // namespace millrace::core
