// Random histories of a broker, with resends, losses and restarts: seeded, so that a failure
// replays. They keep a model of what the producers were told.
#pragma once

#include <map>
#include <random>
#include <set>

#include "tests/unit/core/harness.h"

namespace millrace::test {

class History {
 public:
  explicit History(uint32_t seed) : random_(seed) {
    Settings settings;
    settings.crash_limit = 200;
    settings.max_attempts = 100;
    h_ = std::make_unique<Harness>(settings);
    for (uint64_t i = 0; i < 3; ++i)
      producers_.push_back(std::make_unique<Producer>(*h_, 100 + i, uuid(uint8_t(1 + i))));
    for (uint64_t i = 0; i < 3; ++i) workers_.push_back({uuid(uint8_t(50 + i)), 200 + i});
    for (auto& worker : workers_) attach(worker);
  }

  // `each` is called after each step.
  template <typename Each>
  void take(int steps, Each&& each) {
    for (int i = 0; i < steps; ++i) step(), each();
  }
  Harness& harness() { return *h_; }

  void run(int steps) {
    take(steps, [] {});
    drain();
    const auto& counts = h_->state().counts();
    CHECK(counts.accepted == counts.done + counts.dead);
    CHECK(h_->state().live_jobs() == 0);
    CHECK(counts.done + counts.dead == confirmed_.size());
    for (uint64_t job : confirmed_) {
      JobState state = h_->state().state_of({job});
      CHECK((state == JobState::done || state == JobState::dead));
    }
  }

 private:
  struct Held {
    Uuid id;
    uint64_t session;
    uint64_t batch = 0;
    std::vector<Lease> leases;
    bool attached = false;
  };

  uint64_t below(uint64_t n) { return random_() % n; }

  void step() {
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
        submit();
        break;
      case 3:
      case 4:
      case 5:
        h_->dispatch();
        break;
      case 6:
      case 7:
        finish(workers_[below(3)], false);
        break;
      case 8:
        finish(workers_[below(3)], true);
        break;
      case 9:
        h_->pass(Millis(below(2000)), alive());
        break;
      case 10:
        reattach(workers_[below(3)]);
        break;
      case 11:
        if (below(8) == 0) restart();
        break;
    }
    collect();
  }

  void submit() {
    Producer& p = *producers_[below(3)];
    if (below(4) == 0 && p.next > 3) p.next -= below(3);  // a resend, with the floor it had
    p.submit(std::vector<std::string_view>(1 + below(5), "payload"), {protocol::Report(below(3))},
             "q");
  }

  void attach(Held& worker) {
    worker.session += 1000;
    h_->receive(Port::backend, worker.session, worker.session,
                protocol::Register{worker.id, "w", {"q"}, 4, worker.leases});
    worker.attached = true;
    collect();
    h_->receive(Port::backend, worker.session, worker.session, protocol::Credit{1 + below(8)});
  }

  void reattach(Held& worker) {
    if (below(3) == 0) worker.leases.clear();  // the messages that brought them were lost
    attach(worker);
  }

  void finish(Held& worker, bool fails) {
    if (worker.leases.empty()) return;
    size_t at = below(worker.leases.size());
    Lease lease = worker.leases[at];
    if (below(4) != 0)
      worker.leases.erase(worker.leases.begin() + long(at));  // else it says so again
    if (fails) {
      auto kind = protocol::FailKind(below(3));
      h_->receive(Port::backend, worker.session, worker.session,
                  protocol::Fail{++worker.batch, {{lease, kind, "e"}}});
    } else {
      h_->receive(Port::backend, worker.session, worker.session,
                  protocol::Done{++worker.batch, {{lease, true, "r"}}});
    }
  }

  std::vector<std::pair<Port, uint64_t>> alive() {
    std::vector<std::pair<Port, uint64_t>> peers;
    for (auto& p : producers_) peers.push_back({Port::frontend, p->session});
    for (auto& w : workers_)
      if (below(4) != 0) peers.push_back({Port::backend, w.session});
    return peers;
  }

  void restart() {
    h_->restart();
    for (auto& p : producers_) p->hello();
    for (auto& w : workers_) w.attached = false;
  }

  // Takes what the broker said: leases to their workers, stale ones away from them.
  void collect() {
    std::vector<Sent> sent = std::exchange(h_->sent, {});
    for (const Sent& s : sent) {
      if (auto* confirm = std::get_if<protocol::Confirm>(&s.message)) {
        for (const auto& range : confirm->ranges)
          for (uint64_t i = 0; i < range.count; ++i) {
            bool is_new = confirmed_.insert(range.first_job.value + i).second;
            CHECK(is_new == !range.known);
          }
      }
      for (Held& worker : workers_) {
        if (SessionId{worker.session} != s.session) continue;
        if (auto* grant = std::get_if<protocol::LeaseGrant>(&s.message))
          for (const auto& entry : grant->jobs) {
            Epoch& last = epochs_[entry.lease.job.value];
            CHECK(entry.lease.epoch > last);
            last = entry.lease.epoch;
            worker.leases.push_back(entry.lease);
          }
        if (auto* stale = std::get_if<protocol::Stale>(&s.message)) drop(worker, stale->jobs);
        if (auto* welcome = std::get_if<protocol::Welcome>(&s.message))
          drop(worker, welcome->stale);
      }
    }
  }
  static void drop(Held& worker, const std::vector<Lease>& leases) {
    for (Lease lease : leases) std::erase(worker.leases, lease);
  }

  // When faults stop, everything ends.
  void drain() {
    for (auto& worker : workers_) attach(worker);
    for (int i = 0; i < 5000 && h_->state().live_jobs() > 0; ++i) {
      h_->dispatch();
      collect();
      for (Held& worker : workers_) {
        if (worker.leases.empty()) continue;
        protocol::Done done{++worker.batch, {}};
        for (Lease lease : std::exchange(worker.leases, {}))
          done.jobs.push_back({lease, false, {}});
        h_->receive(Port::backend, worker.session, worker.session, done);
      }
      std::vector<std::pair<Port, uint64_t>> all;
      for (auto& p : producers_) all.push_back({Port::frontend, p->session});
      for (auto& w : workers_) all.push_back({Port::backend, w.session});
      h_->pass(Millis(1000), all);
      collect();
    }
  }

  std::mt19937 random_;
  std::unique_ptr<Harness> h_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::vector<Held> workers_;
  std::set<uint64_t> confirmed_;
  std::map<uint64_t, Epoch> epochs_;
};

}  // namespace millrace::test
