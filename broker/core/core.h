// The broker's rules: one deterministic state machine without I/O.
// Shape:   receive(), tick(), dispatch() → Output: records to persist, then messages to send. Core
//          routes messages to the parts that it owns, and says in which order they act; each part
//          knows those above it in the list of members, never one below it.
//          1. Durable state changes only by emitting a record; Context::emit() applies it at once.
//          2. A message goes out after everything emitted before it is durable, unless it is marked
//             at_once (it then promises nothing).
//          3. There is one way in which a peer is gone: close_session().
// Units:   Now carries both clocks: leases and heartbeats count monotonic time, dues wall time
// Limits:  docs/PROTOCOL.md, section 6
// Errors:  a client's mistake is answered with REJECT, STALE, ERROR or REREGISTER
// Owns:    the durable state and the sessions; nothing of the outside
// Threads: one
// Source:  etcd's raft Ready, ScyllaDB's raft fsm: persist this, then send that
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/dispatch/dispatcher.h"
#include "broker/core/dispatch/queues.h"
#include "broker/core/dispatch/recalls.h"
#include "broker/core/leases.h"
#include "broker/core/outcomes/answers.h"
#include "broker/core/outcomes/operations.h"
#include "broker/core/outcomes/outcomes.h"
#include "broker/core/session/context.h"
#include "broker/core/session/sessions.h"
#include "broker/core/submissions.h"
#include "broker/core/timers.h"

namespace millrace::core {

// Where a job is, and what it waits for.
struct Explanation {
  JobState state = JobState::unknown;
  std::string why;  // a sentence
};

class Core {
 public:
  Core(Settings settings, uint64_t seed);

  // Recovery: records in order, then begin(), which opens this incarnation. In a new journal
  // `new_broker` names the broker.
  std::optional<std::string> replay(const Record& record, Now now);
  void begin(Now now, BrokerId new_broker, Output& out);
  void checkpoint(Output& out);  // the first record of a segment
  // Writes anew what is left of a job, so that the segment it stands in can go: all of it, live or
  // dead, or its result (then without the payload).
  void relocate(JobId job, std::string_view payload, Output& out);

  void receive(Now now, Route route, const protocol::Envelope<protocol::FromClient>& envelope,
               Output& out, KeyId key = {});
  void refuse(Route route, const protocol::Fault& fault,
              Output& out) {  // a frame that is no message
    sessions_.refuse(route, fault, out);
  }
  // A message was dropped: its session gets no grants, and must register again.
  void unreachable(SessionId session);
  void unreachable(Route route);
  // Whether a connection takes more output now. Answers to QUERY wait until theirs does; who asks
  // is told so by wake_at().
  using HasRoom = Sessions::HasRoom;
  void set_has_room(HasRoom has_room) { sessions_.set_has_room(std::move(has_room)); }
  // Whether a connection is still open, as far as is known: while it is, no other takes over its
  // producer or worker.
  using IsConnected = Sessions::IsConnected;
  void set_is_connected(IsConnected is_connected) {
    sessions_.set_is_connected(std::move(is_connected));
  }
  // Whether a HELLO or REGISTER of a connection can wait: see Sessions::contest().
  using CanWait = Sessions::CanWait;
  void set_can_wait(CanWait can_wait) { sessions_.set_can_wait(std::move(can_wait)); }
  bool is_decided(Now now, SessionId older, SessionId newer, bool all_read);
  void withdraw(SessionId older, SessionId newer) { sessions_.withdraw(older, newer); }
  // Of a job that is ready: LEASEs to one worker are cut so that a dispatch sends it no more
  // than kGrantBytes of payloads, or one job. Nothing: its payload is not in memory yet, so it
  // waits, with those behind it; dispatch again when it may be there.
  using PayloadSize = Dispatcher::PayloadSize;
  void set_payload_size(PayloadSize size) { dispatcher_.set_payload_size(std::move(size)); }
  bool has_session(Route route) const { return !sessions_.on(route).empty(); }
  // Who it is that uses this connection, for people.
  std::string name_of(Route route) const { return sessions_.name_of(route); }
  // What was done so far, in jobs looked at (about 0.1 us each): what a message has cost is the
  // difference.
  uint64_t work() const { return context_.work; }
  // This connection's peer must go: as if it had fallen silent. Returns its sessions.
  std::vector<SessionId> expel(Now now, Route route, Output& out);
  void tick(Now now, Output& out);  // what time brings; call at wake_at()
  void dispatch(Now now,
                Output& out);  // grants what can be granted; call after a round of receives
  Mono wake_at(Now now) const;

  // What people ask for; cancel() says how many jobs it concerned.
  uint64_t cancel(Now now, const std::vector<JobRange>& jobs, Output& out);
  // A purge cancels all jobs of a queue that are not leased. Begins nothing, and returns null,
  // while too many operations are pending.
  const BulkOperation* start(Now now, BulkRequest request);
  void advance_operations(Now now, Output& out);  // a slice of a pending one
  const BulkOperations& operations() const { return operations_.pending(); }
  void set_queue(Now now, std::string_view queue, const records::QueueSettings& settings,
                 Output& out);
  // Must be without jobs. Its settings go with it; workers that ask for it by name make it anew.
  void delete_queue(Now now, QueueIndex queue, Output& out);
  Explanation explain(Now now, JobId job) const;

  void drain() { context_.draining = true; }  // no new jobs, no new leases
  void set_disk_full(bool full) { submissions_.set_disk_full(full); }
  void set_memory_short(bool is_short) { submissions_.set_memory_short(is_short); }

  const State& state() const { return context_.state; }
  State& state() { return context_.state; }
  const Settings& settings() const { return context_.settings; }
  const Sessions::Table& sessions() const { return sessions_.all(); }
  const Tally& tally() const { return context_.tally; }
  // That take jobs of this queue.
  uint64_t workers_of(QueueIndex queue) const { return queues_.workers_of(queue); }
  std::vector<Held> held() const;  // by the state and by this, by kind
  bool draining() const { return context_.draining; }
  // How many jobs of this queue the worker may be leased now.
  uint64_t room(SessionId worker, QueueIndex queue) {
    return dispatcher_.room(sessions_.at(worker), queue);
  }
  bool every_producer_knows_draining() const { return sessions_.every_producer_knows_draining(); }

 private:
  void open_producer(Route route, KeyId key, SessionId id, const protocol::Hello& message,
                     Output& out);
  void open_worker(Route route, KeyId key, SessionId id, const protocol::Register& message,
                   Output& out);
  void close_session(SessionId id, records::ReturnReason reason, Output& out);
  void handle(Session& session, const protocol::FromClient& message, Output& out);
  void tick_peers(Output& out);
  Epoch next_first_epoch() const;
  std::string explain_ready(const Job& live) const;

  Context context_;
  Sessions sessions_{context_};
  Outcomes outcomes_{context_, sessions_};
  Operations operations_{context_, sessions_, outcomes_};
  Answers answers_{context_, sessions_, outcomes_, operations_};
  Subscriptions subscriptions_;
  Dispatcher dispatcher_{context_, sessions_, subscriptions_};
  Queues queues_{context_, subscriptions_, dispatcher_};
  Recalls recalls_{context_, sessions_, subscriptions_, dispatcher_};
  Submissions submissions_{context_, sessions_, queues_};
  Leases leases_{context_, sessions_, outcomes_, operations_, dispatcher_};
  Timers timers_{context_, outcomes_};
  Mono next_tick_{};
};

}  // namespace millrace::core
