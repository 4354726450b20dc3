// A worker session with a test in the place of broker, pool and clock.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/protocol/codec.h"
#include "tests/catch.h"
#include "worker/session/worker_session.h"

namespace millrace::worker {

class WorkerHarness {
 public:
  explicit WorkerHarness(SessionSettings settings) : session(std::move(settings)) {}

  static SessionSettings settings(uint64_t threads = 2, std::optional<uint64_t> prefetch = {}) {
    return {Uuid{}, "w1", {"q", "r"}, threads, prefetch};
  }

  void connect(std::vector<protocol::Lease> stale = {}) {
    open();
    welcome(std::move(stale));
  }
  void open() {
    id.value += 1;
    session.opened(id, &out);
  }
  void welcome(std::vector<protocol::Lease> stale = {}) {
    settings_told.stale = std::move(stale);
    receive(settings_told);
  }
  // From the broker, over the wire's own form, as the runner hands it in.
  void receive(const protocol::FromBroker& message) {
    auto frame = std::make_shared<std::string>(encode(id, message));
    auto decoded = protocol::decode_from_broker(*frame);
    auto& envelope = std::get<protocol::Envelope<protocol::FromBroker>>(decoded);
    session.received(envelope.message, frame, now, &out);
  }
  void lease(std::vector<protocol::Lease> leases, bool wants_result = false,
             std::string_view queue = "q") {
    protocol::LeaseGrant grant{queue, {}};
    for (auto lease : leases) grant.jobs.push_back({lease, 1, wants_result, "payload"});
    receive(grant);
  }
  void finish(protocol::Lease lease, Completion completion = Completion::done("result"),
              std::chrono::nanoseconds run = std::chrono::milliseconds(1)) {
    std::vector<Finished> ends;
    ends.push_back({lease, std::move(completion), run});
    session.completed(std::move(ends), &out);
  }
  void advance(Millis time) {
    now += time;
    session.tick(now, &out);
  }

  // What was sent since the last call. Its views live as long as the harness.
  std::vector<protocol::FromClient> sent() {
    std::vector<protocol::FromClient> messages;
    for (std::string& frame : out.frames) {
      frames_.push_back(std::move(frame));
      auto decoded = protocol::decode_from_client(frames_.back());
      REQUIRE(decoded.index() == 0);
      CHECK(std::get<0>(decoded).session == id);
      messages.push_back(std::move(std::get<0>(decoded).message));
    }
    out.frames.clear();
    return messages;
  }
  // Those of one kind among them.
  template <typename Message>
  std::vector<Message> sent_as() {
    std::vector<Message> found;
    for (auto& message : sent()) {
      if (auto* wanted = std::get_if<Message>(&message)) found.push_back(std::move(*wanted));
    }
    return found;
  }
  std::vector<protocol::Lease> started() {
    std::vector<protocol::Lease> leases;
    for (const Job& job : std::exchange(out.start, {})) leases.push_back(job.lease);
    return leases;
  }
  std::vector<protocol::Lease> forgotten() { return std::exchange(out.forget, {}); }

  WorkerSession session;
  Output out;
  Mono now = Mono() + std::chrono::hours(1);
  SessionId id{100};
  protocol::Welcome settings_told{
      .broker = {0x3f9a1c07}, .incarnation = 1, .durability = "confirmed"};

 private:
  std::deque<std::string> frames_;
};

}  // namespace millrace::worker
