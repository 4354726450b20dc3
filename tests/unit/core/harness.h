// A core under test, with time as an input and every record applied a second time to a replica
// through the journal's codec, so that each test also shows: live state = replayed state.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "broker/core/core.h"
#include "broker/records/record_codec.h"
#include "tests/catch.h"

namespace millrace::test {

using namespace millrace::core;
using protocol::FromBroker;
using protocol::FromClient;

inline Uuid uuid(uint8_t n) {
  Uuid id;
  id.bytes.fill(n);
  return id;
}

struct Sent {
  Route route;
  SessionId session;
  FromBroker message;
  bool at_once = false;
};

class Harness {
 public:
  explicit Harness(Settings settings = {}) : settings_(settings) { restart(); }

  // A new core on the journal of the old one.
  void restart() {
    core_ = std::make_unique<Core>(settings_, 42);
    replica_ = std::make_unique<State>(settings_.retention);
    for (const std::string& bytes : journal_)
      replay(bytes, [&](const Record& r) { REQUIRE(!core_->replay(r, now)); });
    for (const std::string& bytes : journal_)
      replay(bytes, [&](const Record& r) { replica_->apply(r, now.mono); });
    if (journal_.empty()) replica_->set_broker({7});
    core_->begin(now, {7}, out_);
    settle();
    sent.clear();
  }

  // Writes every job and result anew behind a checkpoint, so that the journal before it can go.
  void relocate_all() {
    relocated_from_ = journal_.size();
    core_->checkpoint(out_);
    settle();
    for (uint64_t id = 1; id < state().next_job().value; ++id)
      if (state().find({id}) || state().result_of({id})) core_->relocate({id}, "payload", out_);
    settle();
  }
  // What a broker finds that has the journal from there on only.
  std::string describe_from_relocated() const {
    State later(settings_.retention);
    for (size_t i = relocated_from_; i < journal_.size(); ++i) {
      replay(journal_[i], [&](const Record& r) {
        auto problem = later.check(r);
        INFO(problem.value_or(""));
        REQUIRE(!problem);
        later.apply(r, now.mono);
      });
    }
    return later.describe();
  }

  void receive(Port port, uint64_t route, uint64_t session, FromClient message, KeyId key = {}) {
    // Through the wire's codec, so that views point where they do in life.
    frame_ = protocol::encode({session}, message);
    auto decoded = protocol::decode_from_client(frame_);
    REQUIRE(decoded.index() == 0);
    core_->receive(now, {port, route}, std::get<0>(decoded), out_, key);
    settle();
  }
  void dispatch() {
    core_->dispatch(now, out_);
    settle();
  }
  // Lets time pass in steps; peers named in `alive` send a heartbeat in each.
  void pass(Millis time, const std::vector<std::pair<Port, uint64_t>>& alive = {}) {
    for (Millis step(250); time.count() > 0; time -= step) {
      now.mono += std::min(step, time);
      now.wall += std::min(step, time);
      for (auto [port, session] : alive) receive(port, session, session, protocol::Heartbeat{});
      core_->tick(now, out_);
      settle();
      dispatch();
    }
  }

  // From the question to the end; says how many jobs it concerned.
  uint64_t bulk(BulkRequest request) {
    const uint64_t number = core_->start(now, std::move(request))->number;
    while (!core_->operations().find(number)->done) {
      core_->advance_operations(now, out_);
      settle();
    }
    return core_->operations().find(number)->changed;
  }
  // What a call into the core left, for tests that make the call themselves.
  void absorb(Output& out) {
    std::swap(out, out_);
    settle();
  }
  // The messages of a kind sent since the last call of clear().
  template <typename Message>
  std::vector<Message> all() const {
    std::vector<Message> found;
    for (const Sent& s : sent)
      if (auto* message = std::get_if<Message>(&s.message)) found.push_back(*message);
    return found;
  }
  template <typename Message>
  Message only() const {
    auto found = all<Message>();
    REQUIRE(found.size() == 1);
    return found[0];
  }
  void clear() { sent.clear(); }

  Core& core() { return *core_; }
  const std::vector<std::string>& journal() const { return journal_; }  // a record each
  const State& state() const { return core_->state(); }

  Now now{Mono(std::chrono::hours(1)), wall_from_int(1'000'000)};
  std::vector<Sent> sent;

 private:
  template <typename Visit>
  static void replay(const std::string& bytes, Visit&& visit) {
    auto decoded = records::decode_all(bytes, [&](const Record& record, size_t) { visit(record); });
    REQUIRE(decoded.ok());
  }

  void settle() {
    for (auto& [record, owner] : out_.records) {
      records::Chunk chunk;
      chunk.append(record, owner);
      std::string bytes;
      for (std::string_view part : chunk.parts()) bytes += part;
      journal_.push_back(bytes);
      replay(bytes, [&](const Record& r) { replica_->apply(r, now.mono); });
    }
    for (auto& send : out_.sends) {
      sent.push_back({send.route, send.session, own(std::move(send.message)), send.at_once});
    }
    bool emitted = !out_.records.empty();
    out_.clear();
    if (emitted) REQUIRE(core_->state().describe() == replica_->describe());
    REQUIRE(core_->state().totals_agree());
  }

  // Reports point into the core; a test may look at them later.
  FromBroker own(FromBroker message) {
    if (auto* outcome = std::get_if<protocol::Outcome>(&message)) {
      for (auto& entry : outcome->entries) {
        entry.result = kept_.emplace_back(entry.result);
        entry.error = kept_.emplace_back(entry.error);
      }
    }
    return message;
  }

  Settings settings_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<State> replica_;
  Output out_;
  std::string frame_;
  std::vector<std::string> journal_;
  size_t relocated_from_ = 0;
  std::deque<std::string> kept_;
};

// A producer and a worker that do what the protocol page says, for tests about something else.
struct Producer {
  Harness& h;
  uint64_t session;
  Uuid id;
  KeyId key;
  uint64_t route;  // by default a connection of its own
  uint64_t next = 1;

  Producer(Harness& harness, uint64_t s, Uuid u, KeyId k = {}, uint64_t r = 0)
      : h(harness), session(s), id(u), key(k), route(r == 0 ? s : r) {
    hello();
  }
  void hello() { h.receive(Port::frontend, route, session, protocol::Hello{id}, key); }
  void submit(std::vector<std::string_view> payloads, protocol::SubmitOptions options = {},
              std::string_view queue = "q") {
    protocol::Submit message;
    message.floor = message.first = {next};
    message.queue = queue;
    message.options = options;
    message.payloads = payloads;
    next += payloads.size();
    h.receive(Port::frontend, route, session, message, key);
  }
};

struct Worker {
  Harness& h;
  uint64_t session;
  Uuid id;
  uint64_t batch = 0;

  Worker(Harness& harness, uint64_t s, Uuid u, uint64_t credit = 10, std::vector<Lease> claims = {})
      : h(harness), session(s), id(u) {
    register_again(s, std::move(claims));
    if (credit > 0) h.receive(Port::backend, session, session, protocol::Credit{credit});
  }
  void register_again(uint64_t new_session, std::vector<Lease> claims = {}) {
    session = new_session;
    h.receive(Port::backend, session, session,
              protocol::Register{id, "w", {"q"}, 4, std::move(claims)});
  }
  void done(std::vector<Lease> leases, std::string_view result = {}) {
    protocol::Done message{++batch, {}};
    for (Lease lease : leases) message.jobs.push_back({lease, !result.empty(), result});
    h.receive(Port::backend, session, session, message);
  }
  void fail(Lease lease, protocol::FailKind kind = protocol::FailKind::retryable) {
    h.receive(Port::backend, session, session, protocol::Fail{++batch, {{lease, kind, "no luck"}}});
  }
};

inline std::vector<Lease> granted(const Harness& h) {
  std::vector<Lease> leases;
  for (const auto& grant : h.all<protocol::LeaseGrant>())
    for (const auto& entry : grant.jobs) leases.push_back(entry.lease);
  return leases;
}

// A core with one producer and one worker, for TEST_CASE_METHOD.
struct OneWorker {
  // Submits a job and leases it to the worker.
  Lease lease_one() {
    p.submit({"a"});
    h.dispatch();
    const std::vector<Lease> leases = granted(h);
    REQUIRE(leases.size() == 1);
    return leases[0];
  }

  Harness h;
  Producer p{h, 1, uuid(1)};
  Worker w{h, 2, uuid(2)};
};

}  // namespace millrace::test
